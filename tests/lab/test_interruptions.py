"""If a run is interrupted at any step, the next run finishes it, and nothing is left behind: `make interruptions`.

A walk goes through a whole deployment one step at a time. Each run is interrupted at the first step that it makes: the
first run in the middle of the step, the next one after the step, and so on. Each run begins where the last one stopped.
So each step that changes something is interrupted in both ways.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from operations.backup.check import whole_file
from plan.backup.manifest import MANIFEST, missing_parts, parse_manifest
from plan.backup.places import ARCHIVES, SERVICE, WORK
from plan.backup.schedule import ON
from tests.lab.breakages.shell import listen
from tests.lab.conftest import REPO, TestLab, beside
from tests.lab.inventories import GROUPS, write_inventory
from tests.lab.traces import OURS, keys_left, left_over

SETTINGS = {
    "headscale_users": ["people", "anna"],
    "headscale_devices": [{"name": "anna-phone", "owner": "anna", "kind": "linux"}],
}
#: The ports that an upgrade of settings changes. They change rules, policy, control server, model server and gateway.
UPGRADED_PORTS = {"ollama": "11435/tcp", "openclaw": "18790/tcp"}
MORE = {"id": "web", "from": "lan", "to": "all", "port": "8080/tcp", "over": "lan", "why": "one row more"}


def inventory(folder: Path, lab: TestLab, data: dict[str, Any]) -> str:
    """An inventory of the lab's house with these settings."""
    return write_inventory(folder, GROUPS[lab.topology], data)


def interrupted(
    lab: TestLab, step: int, how: str, *arguments: str, but: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run pyinfra and interrupt it at a step. Steps in the file `but` are not counted. See lab/interrupt.py."""
    known = ("--but", str(but)) if but else ()
    return lab.run(sys.executable, "-m", "lab.interrupt", str(step), how, *known, "-y", *arguments)


def walk(lab: TestLab, middle: str, folder: Path, *arguments: str) -> list[str]:
    """Interrupt runs until one has nothing more to do. Returns the steps that were interrupted.

    Each run is interrupted at the first step that was not yet interrupted in this way: in turns in the `middle` of the
    step, and after it.
    """
    cuts: list[str] = []
    seen = folder / "seen"
    for how in cycle((middle, "after")):
        seen.write_text("\n".join(cuts))
        begun = time.monotonic()
        done = interrupted(lab, 1, how, *arguments, but=seen)
        if done.returncode == 0:
            return cuts
        assert done.returncode == -9, f"after {cuts[-3:]}:\n{done.stdout[-2000:]}{done.stderr[-6000:]}"
        cuts += re.findall(r"^\[interrupted\] (.+)$", done.stderr, re.MULTILINE)
        print(f"{len(cuts):4} {time.monotonic() - begun:6.1f} s  {cuts[-1]}", flush=True)
        assert len(cuts) < 400, f"the walk does not come to an end: {cuts[-20:]}"
    return cuts


def whole(lab: TestLab, inventory: str, folder: Path) -> None:
    """Check that the house is whole: a run changes nothing, nothing is left over, and the verification passes."""
    results = lab.deploy(inventory=inventory)
    changed = {each["name"]: each["success"] for each in results["operations"] if each["success"]}
    assert changed == {}
    for host in lab.hosts:
        assert left_over(lab, host) == []
    command = (sys.executable, "-m", "pytest", "tests/verify", "--inventory", inventory, "--reports", str(folder))
    done = lab.run(*command)
    assert done.returncode == 0, done.stdout[-8000:]


@pytest.fixture(scope="module", params=["single", "split"])
def lab(request: pytest.FixtureRequest) -> Iterator[TestLab]:
    """A lab of each topology, on which nothing was deployed."""
    if request.config.getoption("--interruptions") != "all":
        pytest.skip("takes most of an hour: `make interruptions` runs it; tests/lab/test_house.py has a few points")
    yield request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def cut(lab: TestLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """Walk -> steps that were interrupted. At the end it is written to reports/interruptions-TOPOLOGY.json."""
    walks: dict[str, list[str]] = {}
    yield walks
    (REPO / "reports").mkdir(exist_ok=True)
    (REPO / f"reports/interruptions-{lab.topology}.json").write_text(json.dumps(walks, indent=2) + "\n")


#: Topology -> how a step is interrupted: with "during", its command goes on on the host; with "cut", it is killed there
#: too.
IN_THE_MIDDLE = {"single": "cut", "split": "during"}


def test_a_first_deployment(lab: TestLab, cut: dict[str, list[str]], tmp_path: Path) -> None:
    file = inventory(tmp_path, lab, SETTINGS)
    cut["first deployment"] = walk(lab, IN_THE_MIDDLE[lab.topology], tmp_path, file, "deploy.py")
    assert len(cut["first deployment"]) >= 40
    whole(lab, file, tmp_path)


#: The steps of a first deployment at which a host is switched off. Each run goes on where the last one stopped.
POWER_CUTS = (1, 3, 9, 14, 18, 8, 6)


def test_hosts_that_go_off_in_the_middle(lab: TestLab, cut: dict[str, list[str]], tmp_path: Path) -> None:
    if lab.topology != "single":
        pytest.skip("this test needs a new lab, so one topology is enough")
    for words in (["down"], ["up", *beside()]):
        assert lab.lab(*words).returncode == 0
    file = inventory(tmp_path, lab, SETTINGS)
    for step in POWER_CUTS:
        done = interrupted(lab, step, "power", file, "deploy.py")
        assert done.returncode == -9, done.stdout[-2000:] + done.stderr[-6000:]
        cut["power"] = [*cut.get("power", []), *re.findall(r"^\[interrupted\] (.+) #", done.stderr, re.MULTILINE)]
        up = lab.lab("up")
        assert up.returncode == 0, up.stdout[-3000:] + up.stderr[-3000:]
    lab.deploy(inventory=file)
    whole(lab, file, tmp_path)


def test_a_full_disk_stops_a_run_and_the_next_one_goes_on(lab: TestLab, tmp_path: Path) -> None:
    file = inventory(tmp_path, lab, SETTINGS)
    rules = lab.ssh("laptop", "nft --stateless list table inet private_ai")
    for full, change in (
        # There is no room for an upload.
        ("/var/lib/private-ai/incoming", "rm -r /opt/private-ai/tailscale-*"),
        # There is no room for new rules, so the old rules stay in force.
        ("/etc/private-ai", "echo >> /etc/private-ai/firewall.nft"),
    ):
        lab.ssh("laptop", f"cp -a {full} /root/full; mount -t tmpfs -o size=4k,mode=0700 tmpfs {full}")
        lab.ssh("laptop", f"cp -a /root/full/. {full} 2>/dev/null; {change}", check=False)
        try:
            done = lab.pyinfra("--limit", "laptop", inventory=file)
            assert done.returncode != 0
            assert "No space left on device" in done.stderr or "Failure" in done.stderr, done.stderr[-3000:]
            assert lab.ssh("laptop", "nft --stateless list table inet private_ai") == rules
        finally:
            lab.ssh("laptop", f"umount {full}; rm -r /root/full")
        lab.deploy(inventory=file)
    whole(lab, file, tmp_path)


def test_an_upgrade_of_settings(lab: TestLab, cut: dict[str, list[str]], tmp_path: Path) -> None:
    from tests.unit.houses import SETTINGS as SHIPPED

    table = [{**row, "port": UPGRADED_PORTS.get(row["id"], row["port"])} for row in SHIPPED["access_table"]]
    data = {**SETTINGS, "access_table": [*table, MORE], "headscale_node_expiry": "90d"}
    lab.deploy(inventory=inventory(tmp_path, lab, SETTINGS))
    file = inventory(tmp_path, lab, data)
    # On the port of the new row a program must listen.
    for host in lab.hosts:
        lab.ssh(host, listen(8080, "web"))
    cut["upgrade of settings"] = walk(lab, IN_THE_MIDDLE[lab.topology], tmp_path, file, "deploy.py")
    touched = {each.split(": ", 1)[1].split(" | ")[0] for each in cut["upgrade of settings"]}
    assert {"Firewall", "Headscale", "Ollama", "OpenClaw"} <= touched
    whole(lab, file, tmp_path)
    for host in lab.hosts:
        lab.ssh(host, "systemctl stop web")
    # Deploy the old settings again, without an interruption.
    lab.deploy(inventory=inventory(tmp_path, lab, SETTINGS))


def test_a_device_s_key(lab: TestLab, cut: dict[str, list[str]], tmp_path: Path) -> None:
    file = inventory(tmp_path, lab, SETTINGS)
    for step in (1, 2, 3):
        done = interrupted(lab, step, "after", file, "playbooks/device_add.py", "--data", "device=anna-phone")
        assert done.returncode in (0, -9), done.stderr[-3000:]
        cut["device"] = [*cut.get("device", []), *re.findall(r"^\[interrupted\] (.+)$", done.stderr, re.MULTILINE)]
    lab.deploy(inventory=file)
    program = str(Path(sys.executable).parent / "pyinfra")
    done = lab.run(program, "-y", file, "playbooks/device_add.py", "--data", "device=anna-phone")
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(keys_left(lab)) == 1, "one key waits, the one on the page"
    done = lab.run(program, "-y", file, "playbooks/device_remove.py", "--data", "device=anna-phone")
    assert done.returncode == 0, done.stderr[-3000:]
    assert keys_left(lab) == []


#: A key of age's own documentation.
BACKED_UP = {
    "backup_recipients": ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"],
    "backup_every": "1 month",
    **SETTINGS,
}


def test_a_backup(lab: TestLab, cut: dict[str, list[str]], tmp_path: Path) -> None:
    file = inventory(tmp_path, lab, BACKED_UP)
    lab.deploy(inventory=file)
    own = {role: names[0] for role, names in GROUPS[lab.topology].items() if role in ("coordinator", "gateway")}
    for host in set(own.values()):
        lab.ssh(host, f"systemctl start {SERVICE}")
    (folder := tmp_path / "backups").mkdir()
    arguments = ("--data", f"to={folder}", file, "playbooks/backup.py")
    cut["backup"] = walk(lab, IN_THE_MIDDLE[lab.topology], tmp_path, *arguments)
    assert len(cut["backup"]) >= 6, cut["backup"]
    kept = [folder, *(folder / f"{ON}{host}" for host in set(own.values()))]
    for place in kept:
        names = [each.name for each in place.iterdir() if not each.name.startswith(ON)]
        assert names and not [name for name in names if name.startswith(".")], names
        # All that has the name of a backup is whole.
        for name in names:
            manifest = parse_manifest((place / name / MANIFEST).read_text())
            assert missing_parts(manifest) == []
            for part in manifest.parts:
                whole_file(place / name / part.file, part)
    for host in lab.hosts:
        assert lab.ssh(host, f"find {WORK} {ARCHIVES} -mindepth 1 2>/dev/null || true") == ""
    whole(lab, file, tmp_path)


def test_the_removal_of_the_house(lab: TestLab, cut: dict[str, list[str]], tmp_path: Path) -> None:
    file = inventory(tmp_path, lab, SETTINGS)
    lab.deploy(inventory=file)
    data = ("--data", "everything=house", "--data", "data=delete")
    cut["removal"] = walk(lab, IN_THE_MIDDLE[lab.topology], tmp_path, *data, file, "playbooks/remove.py")
    assert len(cut["removal"]) >= 10, cut["removal"]
    for host in lab.hosts:
        assert lab.ssh(host, OURS) == "", host
    again = lab.run(str(Path(sys.executable).parent / "pyinfra"), "-y", *data, file, "playbooks/remove.py")
    assert again.returncode == 0 and again.stderr.count("nothing of the house is there") == len(lab.hosts)
