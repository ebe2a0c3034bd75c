"""The data that an upgrade copies before it changes anything, and whether there is room for it and for the program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from plan.base.capabilities import Machine
from plan.base.memory_and_disks import AND, shortages
from plan.engine.errors import SettingError
from plan.engine.upload_folder import INCOMING
from plan.upgrade.versions import Step

#: Beside the copy: logs, files of configuration, what a file system needs for itself.
RESERVE_MIB = 64
#: One more image of OpenClaw: unpacked, and once more with the owners of a container; before that its archive, twice.
IMAGE_MIB = 2048 + 2 * 512


@dataclass(frozen=True)
class Data:
    """The folder of a program's data, the account whose it is, "" for root, and what is made anew and not copied."""

    account: str
    folder: str
    left_out: str = ""


#: Ollama has none: its models are obtained again, and checked by their digests.
DATA = {
    "headscale": Data("headscale", "/var/lib/headscale"),
    "tailscale": Data("", "/var/lib/tailscale"),
    "openclaw": Data("openclaw", "/var/lib/openclaw/state", "./cache"),
}
#: Which of the folders, of whose disks a host tells the free space, is on the disk of a program's data.
_DISKS = {"headscale": "/var/lib", "tailscale": "/var/lib", "openclaw": "/var/lib/openclaw"}


def room_needs(wanted: Iterable[Step], data_mib: Mapping[str, int], program_mib: Mapping[str, int]) -> dict[str, int]:
    """Folder -> MiB that upgrades need there. `data_mib`: of each program's data. `program_mib`: of the new program."""
    needs: dict[str, int] = {}

    def add(folder: str, mib: int) -> None:
        needs[folder] = needs.get(folder, 0) + mib

    for step in wanted:
        data = data_mib.get(step.program, 0)
        add(INCOMING, data + RESERVE_MIB)
        if step.program in _DISKS:
            # A new version may write its data anew, beside the old.
            add(_DISKS[step.program], data)
        if step.program == "openclaw":
            add("/var/lib/openclaw", IMAGE_MIB)
        else:
            add(INCOMING, program_mib.get(step.program, 0))
            add("/opt", program_mib.get(step.program, 0))
    return needs


def room_problems(host: str, wanted: Iterable[Step], machine: Machine, needs: Mapping[str, int]) -> list[SettingError]:
    """The disks on which upgrades have no room."""
    what = ", ".join(map(str, wanted))
    return [
        SettingError(
            f"host {host}: disk at {folders}",
            f"{free} MiB free",
            f"{needed} MiB for {what}: the new program beside the old one, and a copy of the data of before",
            "free disk space or enlarge the volume",
        )
        for folders, free, needed in shortages(machine, needs)
    ]


def room_line(machine: Machine, needs: Mapping[str, int]) -> str:
    """How much upgrades need, and how much is free, in words."""
    free = {machine.disk(folder).system: machine.disk(folder).free_mib for folder in needs}
    return f"room: {sum(needs.values())} MiB are needed, {AND.join(f'{each} MiB' for each in free.values())} are free"
