"""Runs scripts on hosts, over one SSH connection for each host, and probes from vantage points."""

from __future__ import annotations

import collections
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plan.engine.as_root import refusal
from plan.engine.command_environment import BEGIN
from plan.engine.command_environment import answer as answer_of
from tests.verify.door import last_hop, port_of
from tests.verify.inventory import Place, ssh_config

PROBES = Path(__file__).parent / "probes"
#: Raises the limit on open files as far as allowed, because a sweep keeps thousands of sockets open.
MANY_FILES = 'ulimit -n "$(ulimit -Hn)"'


class ProbeError(RuntimeError):
    """A probe could not be made, so there is no result. The text says what to do."""


@dataclass(frozen=True)
class Said:
    """A script's exit status and output."""

    status: int
    stdout: str
    stderr: str


class Remote:
    """One SSH connection for each host. It is opened when it is needed first, and `close` ends it."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = {each.name: each for each in places}
        # In /tmp, because the path of a socket may have only about 100 characters (unix(7)), and TMPDIR may be long.
        self.folder = Path(tempfile.mkdtemp(prefix="verify-", dir="/tmp"))
        self.config = self.folder / "ssh_config"
        self.config.write_text(ssh_config(self.places.values(), self.folder))
        #: Remote commands so far, by host.
        self.commands: collections.Counter[str] = collections.Counter()

    def run(self, name: str, script: str, stdin: str = "", seconds: float = 60) -> Said:
        """Runs `script` with sh as root on host `name`. `stdin` may have secrets in it; no message shows it.

        Raises ProbeError when the host cannot be reached, or when the script takes longer than `seconds`.
        """
        at = self.places[name]
        self.commands[name] += 1
        whole = shlex.quote(f"{BEGIN}\n{script}")
        said = _run(["ssh", "-F", str(self.config), at.address, f"{at.prefix}sh -c {whole}"], name, stdin, seconds)
        if said.status == 255:
            raise ProbeError(
                f"{name} could not be reached over SSH: {said.stderr.strip()}\n"
                f"next: check that it is on and that `ssh` to {at.address} works from here, or leave it out with --only"
            )
        wrong = refusal(name, {at.way: True, "ssh_user": at.user}, said.status, said.stderr)
        if wrong is not None:
            raise ProbeError(
                f"{name}: the user of its login cannot run commands as root: {wrong.found}\nnext: {wrong.next_step}"
            )
        return said

    def jump_port(self, name: str) -> int:
        """The port of sshd on the last jump host before a host, from SSH's configuration; 0 without a jump host."""
        hop = last_hop(self._settings(self.places[name].address))
        return 0 if hop is None else hop[1] or port_of(self._settings(hop[0]))

    def _settings(self, machine: str) -> str:
        """SSH's options for a machine, from `ssh -G`. This makes no connection."""
        command = ["ssh", "-F", str(self.config), "-G", machine]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout

    def network(self, name: str | None, job: Mapping[str, Any], seconds: float = 60) -> dict[str, Any]:
        """Runs a job of probes/network.py on host `name`, or on this computer (None). Raises ProbeError."""
        program, words = (PROBES / "network.py").read_text(), shlex.quote(json.dumps(job, default=list))
        if name is None:
            script = f"{MANY_FILES}; exec {shlex.quote(sys.executable)} - {words}"
            said = _run(["sh", "-c", script], "this computer", program, seconds)
        else:
            said = self.run(name, f"{MANY_FILES}; exec python3 - {words}", program, seconds)
        if said.status == 127:
            raise ProbeError(
                f"{name} has no python3, which the probes need\nnext: apt-get install python3-minimal on {name}"
            )
        return answer(said, f"network probes from {name or 'this computer'}")

    def close(self) -> None:
        """Ends all connections and removes their folder."""
        for at in self.places.values():
            command = ["ssh", "-F", str(self.config), "-O", "exit", at.address]
            subprocess.run(command, capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _run(command: list[str], name: str, stdin: str, seconds: float) -> Said:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise ProbeError(
            f"a probe on {name} took more than {seconds:.0f} s\nnext: find out what keeps the host busy, and run again"
        ) from error
    stdout, stderr = ("".join(answer_of(each.splitlines(keepends=True))) for each in (done.stdout, done.stderr))
    return Said(done.returncode, stdout, stderr)


def answer(said: Said, what: str) -> dict[str, Any]:
    """The JSON object in a probe's output. Raises ProbeError when there is none."""
    try:
        found = json.loads(said.stdout) if said.status == 0 else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ProbeError(
            f"{what}: no answer (status {said.status}): {(said.stderr or said.stdout).strip()[-800:]}\n"
            "next: if the host is well, this is an error of the verification itself: run this check again with -k"
        )
    return found
