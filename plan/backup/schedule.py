"""Backups that hosts make by themselves: how often, and where they keep them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plan.backup.places import KEPT, WORK
from plan.engine.errors import SettingError, nearest

EVERY_SETTING = "group_data/all.py: backup_every"
#: In a host's folder for them, and in the controller's, a backup of one host lies below a folder of its name.
ON = "on-"
#: The longest path of a folder, and the places that a service does not see, or that are emptied at each boot.
FOLDER_MOST = 200
NO_PLACES = ("/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/usr", "/var/tmp", "/opt/private-ai")


@dataclass(frozen=True)
class Interval:
    """`calendar`: systemd's words for when (systemd.time(7)). `seconds`: from one backup to the next."""

    calendar: str
    seconds: int

    @property
    def late(self) -> int:
        """The age in seconds of the newest backup from which a host warns: by then one is missing, and was tried
        again."""
        return 2 * self.seconds


#: The values of backup_every. At night, since OpenClaw packs its state; not between two and three, which clocks skip.
INTERVALS: Mapping[str, Interval] = {
    "6 hours": Interval("*-*-* 00/6:30:00", 6 * 3600),
    "12 hours": Interval("*-*-* 04/12:30:00", 12 * 3600),
    "1 day": Interval("*-*-* 04:30:00", 86400),
    "1 week": Interval("Sun *-*-* 04:30:00", 7 * 86400),
    "1 month": Interval("*-*-01 04:30:00", 31 * 86400),
}


def every(value: Any, readers: Any) -> str:
    """How often hosts make their own backups; "" for never. `readers`: backup_recipients. Raises SettingError."""
    accepted = f"'' for never, or one of {', '.join(map(repr, INTERVALS))}"
    if value == "" or (isinstance(value, str) and value in INTERVALS):
        if value and readers == []:
            step = "make a pair of keys with `make backup-key`, and write the public one into backup_recipients"
            raise SettingError(EVERY_SETTING, value, "'' as long as backup_recipients is []", step)
        return str(value)
    raise SettingError(EVERY_SETTING, value, accepted, nearest(value, INTERVALS, "use '1 day'"))


def folder(where: str, value: Any, mounted: Any) -> tuple[str, bool]:
    """Where a host keeps its own backups, and whether that has to be another disk. Raises SettingError."""
    if not isinstance(mounted, bool):
        accepted = "True, if the folder has to be on a mounted disk, or False"
        raise SettingError(f"{where}: backup_folder_mounted", mounted, accepted, "write it without quotes")
    if value in (None, KEPT):
        if mounted:
            accepted = "False as long as backup_folder is None: the house's own folder is on the system's disk"
            raise SettingError(f"{where}: backup_folder_mounted", mounted, accepted, "write the folder of the disk")
        return KEPT, False
    accepted = (
        f"None, or the path of a folder that is there, such as '/mnt/backups': letters, digits, '.', '_', '-' and '/', "
        f"{FOLDER_MOST} at most, not below {', '.join(NO_PLACES)}, nor in a folder of the house"
    )
    form = r"(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)+"
    known = isinstance(value, str) and re.fullmatch(form, value) is not None and len(value) <= FOLDER_MOST
    closed = (*NO_PLACES, WORK.rpartition("/")[0], "/var/lib/headscale", "/var/lib/ollama", "/var/lib/openclaw")
    if not known or any(value == each or value.startswith(f"{each}/") for each in closed):
        raise SettingError(f"{where}: backup_folder", value, accepted, "correct it, or leave it out")
    return str(value), mounted
