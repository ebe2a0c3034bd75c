"""A lab leaves nothing behind, and its hosts reach nothing but each other and Debian's packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.lab.conftest import REPO, TestLab, free_network

NAME = "test-down"


def lab(net: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LAB": NAME, "LAB_NET": net, "TOPOLOGY": "single"}
    command = [sys.executable, "-m", "lab", *arguments]
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=300, check=False)


def traces(net: str) -> dict[str, set[str]]:
    """What this machine shows of that lab: processes, mounts (one holds its network namespace), interfaces, files."""
    processes = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # ended meanwhile
            continue
        if f".lab/{NAME}" in command or f"10.{net}.0." in command:
            processes.add(f"{entry.name} {command}")
    lists = {
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "interfaces": subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True).stdout,
    }
    found = {
        what: {line for line in text.splitlines() if re.search(rf"{NAME}|10\.{net}\.0\.", line)}
        for what, text in lists.items()
    }
    folders = {str(path) for path in (REPO / ".lab").glob(f"{NAME}/roots/*")}
    return {**found, "processes": processes, "folders": folders}


def test_down_leaves_nothing_behind() -> None:
    net = free_network()
    assert lab(net, "up").returncode == 0
    up = traces(net)
    assert all(up[what] for what in ("processes", "mounts", "interfaces", "folders")), up
    done = lab(net, "down")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(traces(net).values()), traces(net)


def test_hosts_get_debian_packages_and_nothing_else_of_this_machine(single: TestLab) -> None:
    # Any web server of this machine would do as a target; the proxy itself is the one that is surely there.
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
