"""Where a lab keeps its files, and how it remembers its processes.

All files of a lab are in `.lab/NAME/` in the repository. A process is remembered by its number and its start time. The
number alone is not enough, because the kernel uses numbers again, and `down` must never end another program's process.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.topology import DEFAULT_NAME, DEFAULT_NET, DEFAULT_TOPOLOGY, Host, Lab, parse_net

REPOSITORY = Path(__file__).resolve().parent.parent


class LabError(RuntimeError):
    """Something went wrong while working on a lab. The text says what happened and what to do."""


@dataclass(frozen=True)
class Process:
    """A process that cannot be confused with another one. `start` is its start time in clock ticks after boot
    (proc(5))."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, _stat(pid)[1])

    def alive(self) -> bool:
        try:
            state, start = _stat(self.pid)
        except OSError:
            return False
        return start == self.start and state not in "ZX"

    def signal(self, number: int) -> None:
        """Send a signal, but only if exactly this process still runs."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def _stat(pid: int) -> tuple[str, int]:
    # The command name in field 2 may contain spaces and brackets, so the other fields are those after the last bracket.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[19])


@dataclass(frozen=True)
class State:
    """The files of one lab."""

    directory: Path

    @classmethod
    def of(cls, name: str) -> State:
        return cls(REPOSITORY / ".lab" / name)

    @property
    def label(self) -> str:
        """A name for this lab that is unique on the machine: another checkout may have a lab of the same name."""
        return f"{self.directory.name}-{hashlib.sha256(str(self.directory).encode()).hexdigest()[:8]}"

    @property
    def ssh_key(self) -> Path:
        return self.directory / "ssh_key"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        return self.directory / "ssh_config"

    @property
    def host_keys(self) -> Path:
        return self.directory / "host_keys"

    @property
    def namespace(self) -> Path:
        """The file of the lab's network namespace. While the lab is up, it is an nsfs mount."""
        return self.directory / "network"

    @property
    def devices(self) -> Path:
        return self.directory / "devices"

    @property
    def proxy_log(self) -> Path:
        return self.directory / "proxy.log"

    def root(self, host: Host) -> Path:
        return self.directory / "roots" / host.name

    def console(self, host: str) -> Path:
        return self.directory / f"{host}.console"

    def record(self, what: str) -> Path:
        return self.directory / f"{what}.pids"

    def write_processes(self, what: str, processes: dict[str, Process]) -> None:
        text = json.dumps({role: asdict(process) for role, process in processes.items()})
        write_whole(self.record(what), text)

    def processes(self, what: str) -> dict[str, Process]:
        """Role -> process, for a host (`supervisor`, `nspawn`) or for the `proxy`. Empty if none was started."""
        try:
            found: dict[str, dict[str, int]] = json.loads(self.record(what).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {role: Process(**numbers) for role, numbers in found.items()}

    def write_lab(self, lab: Lab) -> None:
        write_whole(self.directory / "topology.json", json.dumps(asdict(lab)))

    def read_lab(self) -> Lab | None:
        """The lab that was brought up here, or None."""
        try:
            found: dict[str, Any] = json.loads((self.directory / "topology.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return Lab(**{**found, "habits": tuple(found.get("habits", ()))})


def write_whole(path: Path, text: str) -> None:
    """Write a file in such a way that a reader sees either the old or the new text, and never a part of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)


def chosen_name() -> str:
    return os.environ.get("LAB") or DEFAULT_NAME


def current_lab(name: str | None = None) -> Lab:
    """The lab of that name (default: LAB, else `demo`). If it is up, it is the lab as it was brought up; otherwise the
    lab as `up` would make it."""
    # Lab() checks the name before it becomes part of a path.
    name = Lab(name or chosen_name()).name
    return State.of(name).read_lab() or Lab(
        name,
        parse_net(os.environ.get("LAB_NET") or str(DEFAULT_NET)),
        os.environ.get("TOPOLOGY") or DEFAULT_TOPOLOGY,
    )
