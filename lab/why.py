"""Show why something failed in a lab: collect units, journals, rules and states of all running hosts, without SSH."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.access import leader
from lab.state import LabError, State
from lab.topology import Lab

#: Seconds that all commands on one host may take together.
PATIENCE = 60
#: Part -> a command for sh on the host. If a host does not have something, the command's own message says so.
PARTS = {
    "failed units": "systemctl --failed --no-legend --plain",
    "our units": "systemctl list-units --all --no-legend --plain 'private-ai*' 'headscale*' 'tailscale*' 'ollama*' "
    "'openclaw*'",
    "state by the host's own look": "cat /var/lib/private-ai/health/state.json",
    "errors of the last hour": "journalctl --no-pager --priority warning --since '1 hour ago' --lines 120",
    "journal of our units": "journalctl --no-pager --since '1 hour ago' --lines 300 "
    "--unit 'private-ai*' --unit 'headscale*' --unit 'tailscale*' --unit 'ollama*' --unit 'openclaw*'",
    "rules": "nft list ruleset",
    "listeners": "ss -Hltunp",
    "addresses and routes": "ip address; ip route; ip -6 route",
    "VPN": "tailscale status",
    "nodes": "headscale nodes list",
    "containers": "cd / && runuser -u openclaw -- env XDG_RUNTIME_DIR=/run/user/$(id -u openclaw) podman ps --all",
    "models": "curl --silent --max-time 5 http://127.0.0.1:11434/api/ps",
    "processes": "ps -eo pid,user,stat,etime,time,rss,args --sort -time | head -40",
    "disks": "df -h; df -i / /var/lib",
    "last run": "cat /run/private-ai/last-run",
}


@dataclass(frozen=True)
class Found:
    """What was collected from one host: the file, and a line or two for people."""

    host: str
    file: Path
    brief: str


def collect(lab: Lab, folder: Path) -> Iterator[Found]:
    """Write a file for each host of a lab into `folder`. If a host does not run, the file has the end of its
    console."""
    state = State.of(lab.name)
    folder.mkdir(parents=True, exist_ok=True)
    script = questions()
    for host in lab.hosts:
        try:
            init = leader(host.name, lab.name)
            text = _said(init, script)
        except LabError as error:
            text = f"=== failed units\n{error}\n=== console\n{_console(state, host.name)}\n"
        file = folder / f"{host.name}.txt"
        # Other accounts on this machine need not read the journals and rules of the virtual hosts.
        file.touch(mode=0o600)
        file.write_text(text, encoding="utf-8")
        failed = text.partition("=== failed units\n")[2].partition("\n===")[0].strip()
        yield Found(host.name, file, failed or "no unit has failed")


def questions() -> str:
    """A script for sh that prints each part below its name."""
    return "\n".join(
        f'echo {shlex.quote(f"=== {part}")}; ({command}) 2>&1 || echo "(status $?)"' for part, command in PARTS.items()
    )


def _said(init: int, script: str) -> str:
    try:
        done = subprocess.run(
            ["nsenter", "--all", f"--target={init}", "timeout", str(PATIENCE), "sh", "-s"],
            input=script,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE + 10,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        return f"{said.decode(errors='replace') if isinstance(said, bytes) else said}\n(no more within {PATIENCE} s)\n"
    return done.stdout + done.stderr


def _console(state: State, host: str) -> str:
    try:
        return (state.directory / f"{host}.console").read_text(errors="replace")[-8000:]
    except OSError as error:
        return str(error)
