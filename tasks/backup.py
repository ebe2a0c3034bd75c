"""Backup: what cannot be made again, encrypted on the hosts for keys that no host has."""

from __future__ import annotations

from operations.engine.component import component
from plan.backup.places import DONE, WORK
from plan.backup.retention import OLD_DAYS
from plan.engine.want import Component, Directory
from tasks.engine.hosts import This

#: Roles whose hosts have something that cannot be made again.
ROLES = ("coordinator", "gateway")


def deploy(this: This) -> None:
    """What a backup needs on this host: programs, and a folder that holds nothing between two backups."""
    if not _takes_part(this):
        return
    packages = ("age", "sqlite3") if this.has("coordinator") else ("age",)
    wanted = Component(packages=packages, directories=(Directory(WORK, mode="0700", empty=True),))
    component(name="Backup | Programs, folder", want=lambda: wanted)


def look(this: This) -> list[tuple[str, ...]]:
    """What the host's own look does about backups: it knows when it was last part of one."""
    return [("backup", DONE, str(OLD_DAYS))] if _takes_part(this) else []


def _takes_part(this: This) -> bool:
    return bool(this.house.backup_recipients) and any(map(this.has, ROLES))
