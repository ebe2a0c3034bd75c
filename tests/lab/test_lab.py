"""A lab leaves nothing behind. Its hosts can reach only each other and Debian's packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from lab.state import current_lab
from tests.lab.conftest import REPO, TestLab

CAP_NET_ADMIN, CAP_SYS_TIME = 12, 25
NAMES = ("test-down", "test-beside")


def lab(name: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "LAB": name, "TOPOLOGY": "single"}
    command = [sys.executable, "-m", "lab", *arguments]
    return subprocess.Popen(
        command,
        cwd=REPO,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended_well(*running: subprocess.Popen[str]) -> None:
    for each in running:
        said, _ = each.communicate(timeout=300)
        assert each.returncode == 0, said


def traces(name: str, net: int) -> dict[str, set[str]]:
    """The traces of a lab on this machine: processes, mounts (one is its network namespace), interfaces, files."""
    processes = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # the process has ended meanwhile
            continue
        if f".lab/{name}/" in command or f"10.{net}.0." in command:
            processes.add(f"{entry.name} {command}")
    lists = {
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "interfaces": subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True).stdout,
    }
    found = {
        what: {line for line in text.splitlines() if re.search(rf"{name}|10\.{net}\.0\.", line)}
        for what, text in lists.items()
    }
    folders = {str(path) for path in (REPO / ".lab").glob(f"{name}/roots/*")}
    return {**found, "processes": processes, "folders": folders}


def test_labs_that_come_at_once_keep_apart_and_down_leaves_nothing_behind() -> None:
    ended_well(*(lab(name, "up", "--net", "free") for name in NAMES))
    nets = {name: current_lab(name).net for name in NAMES}
    assert len(set(nets.values())) == len(NAMES), nets
    for name, net in nets.items():
        up = traces(name, net)
        assert all(up[what] for what in ("processes", "mounts", "interfaces", "folders")), up
    ended_well(*(lab(name, "down") for name in NAMES))
    for name, net in nets.items():
        assert not any(traces(name, net).values()), traces(name, net)


def test_a_lab_beside_another_one_has_one_core_and_its_files_in_memory(single: TestLab) -> None:
    """As it was brought up: tests that run alone use all cores and the disk."""
    lab = current_lab(single.name)
    cores = set(single.ssh("home", "cat /sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings").split())
    assert (len(cores) == 1) == (lab.one_core or os.cpu_count() == 1)
    assert single.ssh("home", "stat --file-system --format %T /") == ("tmpfs" if lab.in_memory else on_disk())


def on_disk() -> str:
    here = ["stat", "--file-system", "--format", "%T", str(REPO)]
    return subprocess.run(here, capture_output=True, text=True, check=True).stdout.strip()


def test_no_host_can_set_the_clock_which_is_the_machines(single: TestLab) -> None:
    """The test only reads the capabilities. Trying it could change the clock of the whole machine."""
    for host in ("home", "laptop", "stranger", "internet"):
        allowed = int(single.ssh(host, "sed -n 's/^CapBnd:[[:space:]]*//p' /proc/1/status"), 16)
        # The numbers are from linux/capability.h.
        assert allowed & 1 << CAP_NET_ADMIN and not allowed & 1 << CAP_SYS_TIME, f"{host}: {allowed:x}"


def test_hosts_get_debian_packages_and_nothing_else_of_this_machine(single: TestLab) -> None:
    # Any web server on this machine could be the target. The proxy itself is always there.
    proxy = single.ssh("stranger", "apt-config dump Acquire::http::Proxy | grep -o 'http://[^\"]*'").rstrip("/;")
    assert proxy.startswith(f"http://10.{single.net}.0.1:")
    ask = (
        "import socket,sys;s=socket.create_connection((sys.argv[3],int(sys.argv[1])),3);"
        "s.sendall(f'GET {sys.argv[2]} HTTP/1.0\\r\\n\\r\\n'.encode());print(s.recv(60))"
    )
    port = proxy.rpartition(":")[2]
    refused = single.ssh(
        "stranger", f'python3 -c "{ask}" {port} http://198.51.100.10/ 10.{single.net}.0.1', check=False
    )
    assert "403" in refused, refused
    ssh = single.ssh("stranger", f'python3 -c "{ask}" 22 / 10.{single.net}.0.1 2>&1', check=False)
    assert "timed out" in ssh or "refused" in ssh, ssh
