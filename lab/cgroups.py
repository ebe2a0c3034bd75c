"""A control group for each host, so that hosts keep apart and everything one started can be found again.

Without it nspawn (told not to register, for want of a systemd on the machine) would put all hosts into the
caller's group, where their systemds meet. It is also how `down` ends stragglers without guessing.
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
    """Move a process, by default the calling one, into the group of a lab's part (a host, say).

    `label` is State.label: unlike the name it is the lab's alone on this machine.
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
    (place / "cgroup.procs").write_text(str(pid))  # 0 is whoever writes


def _pass_on_controllers(place: Path) -> None:
    # So that limits on memory and processes work inside the hosts wherever the machine has them to give.
    for name in (place / "cgroup.controllers").read_text().split():
        try:
            (place / "cgroup.subtree_control").write_text(f"+{name}")
        except OSError:
            continue


def members(label: str, part: str = "") -> list[int]:
    """Every process of a lab, or of one part of it."""
    found: list[int] = []
    root = _hierarchy("cgroup2")
    for group in _groups(root / TOP / label / part) if root else ():
        try:
            found += [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
        except OSError:  # the group went away, or is one that holds no processes (threaded)
            continue
    return found


def any_lab() -> bool:
    """Whether any lab is left on this machine, of this checkout or another."""
    root = _hierarchy("cgroup2")
    return root is not None and (root / TOP).is_dir()


def clear(label: str, part: str = "") -> None:
    """End at once whatever is left of a lab, or of one part of it, and remove its groups (needs Linux 5.14).

    Groups that held a killed process must not be used again: some kernels then kill every process that
    systemd starts right into a child group of them.
    """
    root = _hierarchy("cgroup2")
    if root is not None and members(label, part):
        (root / TOP / label / part / "cgroup.kill").write_text("1")
    for _ in range(100):
        if not members(label, part):
            break
        time.sleep(0.05)
    for kind in ("cgroup2", "cgroup"):  # on hybrid machines nspawn makes a twin in the name=systemd hierarchy
        root = _hierarchy(kind)
        if root is None:
            continue
        above = [] if part else [root / TOP]
        for group in [*_groups(root / TOP / label / part), *above]:
            _remove_empty(group)


def _groups(top: Path) -> list[Path]:
    """A group and all below it, the deepest first."""
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
