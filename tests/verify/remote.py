"""Running scripts on hosts over one SSH connection each, and probes from vantage points."""

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
#: As many open files as this process may have: a sweep keeps thousands of sockets open.
MANY_FILES = 'ulimit -n "$(ulimit -Hn)"'


class ProbeError(RuntimeError):
    """A probe could not be made, so nothing is known; the text says what to do."""


@dataclass(frozen=True)
class Said:
    """What a script wrote and its exit status."""

    status: int
    stdout: str
    stderr: str


class Remote:
    """One SSH connection per host, made when it is first needed, ended by `close`."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = {each.name: each for each in places}
        # Socket paths may have about 100 characters (unix(7)), and TMPDIR may be long.
        self.folder = Path(tempfile.mkdtemp(prefix="verify-", dir="/tmp"))
        self.config = self.folder / "ssh_config"
        self.config.write_text(ssh_config(self.places.values(), self.folder))
        #: Remote commands so far, by host.
        self.commands: collections.Counter[str] = collections.Counter()

    def run(self, name: str, script: str, stdin: str = "", seconds: float = 60) -> Said:
        """Run `script` by sh as root on host `name`. `stdin` may hold secrets: it is never shown.

        Raises ProbeError when the host cannot be reached or the script takes more than `seconds`.
        """
        at = self.places[name]
        self.commands[name] += 1
        whole = shlex.quote(f"{BEGIN}\n{script}")
        said = _run(["ssh", "-F", str(self.config), at.address, f"{at.prefix}sh -c {whole}"], name, stdin, seconds)
        if said.status == 255:
            raise ProbeError(
                f"{name} could not be reached over SSH: {said.stderr.strip()}\n"
                f"next: see that it is up and that `ssh` to {at.address} works from here, or leave it out with --only"
            )
        wrong = refusal(name, {at.way: True, "ssh_user": at.user}, said.status, said.stderr)
        if wrong is not None:
            raise ProbeError(f"{name} does not let its user be root: {wrong.found}\nnext: {wrong.next_step}")
        return said

    def jump_port(self, name: str) -> int:
        """The port of sshd on the jump host that is next to a host, as SSH's configuration says; 0 for no jump host."""
        hop = last_hop(self._settings(self.places[name].address))
        return 0 if hop is None else hop[1] or port_of(self._settings(hop[0]))

    def _settings(self, machine: str) -> str:
        """What ssh would do for a machine. Nothing is connected to."""
        command = ["ssh", "-F", str(self.config), "-G", machine]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout

    def network(self, name: str | None, job: Mapping[str, Any], seconds: float = 60) -> dict[str, Any]:
        """Do a job of probes/network.py on host `name`, or here (None). Raises ProbeError."""
        program, words = (PROBES / "network.py").read_text(), shlex.quote(json.dumps(job, default=list))
        if name is None:
            script = f"{MANY_FILES}; exec {shlex.quote(sys.executable)} - {words}"
            said = _run(["sh", "-c", script], "this computer", program, seconds)
        else:
            said = self.run(name, f"{MANY_FILES}; exec python3 - {words}", program, seconds)
        if said.status == 127:
            raise ProbeError(f"{name} has no python3 to probe from\nnext: apt-get install python3-minimal on {name}")
        return answer(said, f"network probes from {name or 'this computer'}")

    def close(self) -> None:
        """End the connections that were made and remove their folder."""
        for at in self.places.values():
            command = ["ssh", "-F", str(self.config), "-O", "exit", at.address]
            subprocess.run(command, capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _run(command: list[str], name: str, stdin: str, seconds: float) -> Said:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise ProbeError(
            f"a probe on {name} took more than {seconds:.0f} s\nnext: see what the host is busy with, and run again"
        ) from error
    stdout, stderr = ("".join(answer_of(each.splitlines(keepends=True))) for each in (done.stdout, done.stderr))
    return Said(done.returncode, stdout, stderr)


def answer(said: Said, what: str) -> dict[str, Any]:
    """The JSON object that a probe printed. Raises ProbeError when it printed none."""
    try:
        found = json.loads(said.stdout) if said.status == 0 else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ProbeError(
            f"{what}: no answer (status {said.status}): {(said.stderr or said.stdout).strip()[-800:]}\n"
            "next: this is the verification's own failure if the host is well; run it again with -k on this test"
        )
    return found
