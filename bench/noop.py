"""Measures a run that changes nothing, and the same checks with other tools."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench.measure import REPO, Bench, BenchError, Figure, Row, nothing_changed, ratio, side_by_side
from lab.state import State

HOSTS = ("home", "laptop")
TOOLS = REPO / "bench" / ".venv"
ANSIBLE = REPO / "bench" / "ansible"
#: Packages that Ansible's modules need on a host: Python, and Python's bindings for apt.
FOR_ANSIBLE = "python3 python3-apt"


def rows(bench: Bench, runs: int, work: Path) -> list[Row]:
    """Compares the no-op run of `single` with the shortest possible run, with pyinfra's own operations and with
    Ansible, and counts its remote commands."""
    wanted = prepare(bench, work)
    ansible = ansible_command(bench, work)
    stock = ("--config", "none", bench.inventory)

    def by_ansible() -> float:
        seconds, done = bench.timed(*ansible, BENCH_WANTED=str(wanted), ANSIBLE_CONFIG=str(ANSIBLE / "ansible.cfg"))
        if re.findall(r"changed=(\d+) +unreachable=(\d+) +failed=(\d+)", done.stdout) != [("0",) * 3] * len(HOSTS):
            raise BenchError(f"Ansible found a difference from the wanted state:\n{done.stdout[-3000:]}")
        return seconds

    found = side_by_side(
        runs,
        {
            "no-op run": lambda: bench.unchanging(bench.inventory, "deploy.py"),
            "floor": lambda: bench.pyinfra(*stock, "bench/floor.py")[0],
            "pyinfra's own operations": lambda: bench.unchanging(*stock, "bench/builtin.py", BENCH_WANTED=str(wanted)),
            "Ansible": by_ansible,
        },
    )
    ours = found["no-op run"]
    counted = [remote_commands(bench) for _ in range(runs)]
    commands = {host: Figure(host, "commands", tuple(each[host] for each in counted)) for host in HOSTS}
    return [
        ratio("no-op run faster than Ansible", found["Ansible"], ours, 20, at_least=True),
        ratio("no-op run faster than pyinfra's own operations", found["pyinfra's own operations"], ours, 5, True),
        ratio("no-op run against the floor", ours, found["floor"], 2.5),
        *(
            Row(f"remote commands of a no-op run, {host}", max(commands[host].values), "", limit, (commands[host],))
            for host, limit in (("home", 20), ("laptop", 8))
        ),
    ]


def prepare(bench: Bench, work: Path) -> Path:
    """Deploys, installs on the hosts what Ansible needs, and writes the wanted state into a file. Returns its path."""
    bench.pyinfra(bench.inventory, "deploy.py")
    for host in HOSTS:
        bench.ssh(host, f"DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes {FOR_ANSIBLE} >/dev/null")
    wanted = work / "wanted.json"
    bench.pyinfra(bench.inventory, "bench/wanted.py", BENCH_WANTED=str(wanted))
    if set(json.loads(wanted.read_text(encoding="utf-8"))) != set(HOSTS):
        raise BenchError(f"{wanted} is not about {' and '.join(HOSTS)}")
    return wanted


def ansible_command(bench: Bench, work: Path) -> list[str]:
    """The command ansible-playbook for the lab's hosts. Ansible is installed in an environment of its own."""
    program = TOOLS / "bin" / "ansible-playbook"
    if not program.exists():
        shutil.rmtree(TOOLS, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", TOOLS], check=True)
        pip = [str(TOOLS / "bin" / "pip"), "install", "--quiet", "--require-hashes"]
        subprocess.run([*pip, "-r", str(REPO / "bench" / "requirements.txt")], check=True)
    inventory = work / "hosts.ini"
    # The lab's SSH configuration shares connections, as Ansible's default does.
    arguments = f"-F {State.of(bench.lab).ssh_config}"
    inventory.write_text(
        "".join(f"{host} ansible_user=root ansible_ssh_common_args='{arguments}'\n" for host in HOSTS), encoding="utf-8"
    )
    return [str(program), "-i", str(inventory), str(ANSIBLE / "playbook.yml")]


def remote_commands(bench: Bench) -> Counter[str]:
    """Host -> number of remote commands in a run that changes nothing, counted in pyinfra's log."""
    done = bench.pyinfra("--debug", bench.inventory, "deploy.py")[1]
    nothing_changed(done.stderr)
    return Counter(re.findall(r"Running command on (\S+):", done.stderr))
