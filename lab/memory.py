"""The files of a lab's hosts in memory, so that writing and removing them takes no time of a disk."""

from __future__ import annotations

import subprocess

from lab.network import mounts_below
from lab.state import LabError, State
from lab.topology import Lab


def hold_roots(lab: Lab, state: State) -> None:
    """If the lab wants it, mount a file system in memory where the hosts' roots will be. `down` unmounts it."""
    roots = state.directory / "roots"
    if not lab.in_memory or str(roots) in mounts_below(state.directory):
        return
    roots.mkdir(exist_ok=True)
    # The size is what the hosts see as their disk. Memory is used for what they write, about 1 GB for each server.
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40G,nr_inodes=0,mode=700", "private-ai-lab", str(roots)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise LabError(f"no file system in memory for {roots}: {done.stderr.strip()}")
