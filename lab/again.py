"""Restart a host of a lab, or give it an empty disk."""

from __future__ import annotations

import shutil
import time

from lab import access, cgroups, lifecycle
from lab.progress import stage
from lab.state import LabError, State
from lab.topology import Lab


def reboot(lab: Lab, name: str) -> None:
    """Restart a host with a command on the host, as an administrator would, and wait until it runs again."""
    state = State.of(lab.name)
    host = lab.host(name)
    before = state.processes(name).get("nspawn")
    if before is None or not before.alive():
        raise LabError(f"host {name} does not run; `python -m lab up` starts it")
    with stage(f"reboot of {name}"):
        access.run_on(name, "sudo systemctl reboot", name=lab.name)
        access.close_connections(state, name)
        end = time.monotonic() + lifecycle.STOP_SECONDS
        while state.processes(name).get("nspawn") == before:
            if time.monotonic() > end:
                raise LabError(f"host {name} did not shut down in {lifecycle.STOP_SECONDS} s")
            time.sleep(0.1)
        lifecycle.wait_running(state, host)


def reinstall(lab: Lab, name: str) -> None:
    """Give a host an empty disk, as if the machine had been replaced: another machine-id, the same address and SSH key.
    Returns when it answers SSH."""
    state = State.of(lab.name)
    host = lab.host(name)
    with lifecycle.only_one(state), stage(f"new disk of {name}"):
        access.close_connections(state, name)
        lifecycle.stop(role for what, role in sorted(state.processes(name).items()) if what == "supervisor")
        lifecycle.stop(state.processes(name).values())
        cgroups.clear(state.label, name)
        shutil.rmtree(state.root(host))
    lifecycle.up(lab)
