"""A control group for each host, so that hosts are separate, and all processes that a host has started can be found.

nspawn does not register its hosts here, because the machine may have no systemd. So without these groups it would put
all hosts into the caller's group, where their systemds would disturb each other. `down` also uses the groups to end
exactly those processes that are left.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from lab.state import LabError

TOP = "private-ai-lab"


def _hierarchy(kind: str) -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, what, options, *_ = line.split()
        if what == kind and (kind == "cgroup2" or "name=systemd" in options.split(",")):
            return Path(where)
    return None


def enter(label: str, part: str, pid: int = 0) -> None:
    """Move a process, by default the calling one, into the group of a part of a lab, for example of a host.

    `label` is State.label: on this machine no other lab has the same label, while two labs may have the same name.
    """
    root = _hierarchy("cgroup2")
    if root is None:
        raise LabError("no cgroup2 is mounted on this machine: mount it at /sys/fs/cgroup and run again")
    place = root
    for name in (TOP, label):
        place = place / name
        place.mkdir(exist_ok=True)
        _pass_on_controllers(place)
    place = place / part
    place.mkdir(exist_ok=True)
    (place / "cgroup.procs").write_text(str(pid))  # 0 stands for the process that writes


def _pass_on_controllers(place: Path) -> None:
    # So that limits on memory and processes work inside the hosts, if the machine has these controllers.
    for name in (place / "cgroup.controllers").read_text().split():
        try:
            (place / "cgroup.subtree_control").write_text(f"+{name}")
        except OSError:
            continue


def members(label: str, part: str = "") -> list[int]:
    """The numbers of all processes of a lab, or of one part of it."""
    found: list[int] = []
    root = _hierarchy("cgroup2")
    for group in _groups(root / TOP / label / part) if root else ():
        try:
            found += [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
        except OSError:  # the group was removed, or is a threaded one, which has no processes
            continue
    return found


def any_lab() -> bool:
    """Whether there is still a lab on this machine, of this checkout or of another one."""
    root = _hierarchy("cgroup2")
    return root is not None and (root / TOP).is_dir()


def clear(label: str, part: str = "") -> None:
    """End all processes that are left of a lab, or of one part of it, and remove its groups (needs Linux 5.14).

    A group with a killed process must not be used again: some kernels then kill every process that systemd starts
    directly in a child group of it.
    """
    root = _hierarchy("cgroup2")
    if root is not None and members(label, part):
        (root / TOP / label / part / "cgroup.kill").write_text("1")
    for _ in range(100):
        if not members(label, part):
            break
        time.sleep(0.05)
    # If the machine has cgroup v1 and v2, nspawn also makes a group of the same name in the hierarchy name=systemd.
    for kind in ("cgroup2", "cgroup"):
        root = _hierarchy(kind)
        if root is None:
            continue
        above = [] if part else [root / TOP]
        for group in [*_groups(root / TOP / label / part), *above]:
            _remove_empty(group)


def _groups(top: Path) -> list[Path]:
    """A group and all groups below it, the deepest first."""
    return [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]


def _remove_empty(group: Path) -> None:
    for _ in range(20):  # a group is busy for a moment after its last process has ended
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if not group.is_dir() or any(p.is_dir() for p in group.iterdir()):
                return
            time.sleep(0.05)
