"""Backup: what cannot be made again, encrypted on the hosts for keys that no host has."""

from __future__ import annotations

from operations.backup.ended import ended
from operations.engine.component import component
from operations.engine.run import this_run
from plan.backup.places import DONE, WORK
from plan.backup.restoring import RESTORED, ROLES, cut_off, parse_restored
from plan.backup.retention import OLD_DAYS
from plan.engine.errors import SettingError
from plan.engine.want import Component, Directory
from tasks.engine.hosts import This


def deploy(this: This) -> None:
    """What a backup needs on this host: programs, and a folder that holds nothing between two backups."""
    if not _takes_part(this):
        return
    packages = ("age", "sqlite3") if this.has("coordinator") else ("age",)
    wanted = Component(packages=packages, directories=(Directory(WORK, mode="0700", empty=True),))
    component(name="Backup | Programs, folder", want=lambda: wanted)


def look(this: This) -> list[tuple[str, ...]]:
    """What the host's own look does about backups and restores: it knows when it was last part of one."""
    made: list[tuple[str, ...]] = [("backup", DONE, str(OLD_DAYS))] if _takes_part(this) else []
    return [*made, ("restored", RESTORED)] if any(map(this.has, ROLES)) else made


def check_whole(this: This) -> SettingError | None:
    """The error when a restore of this host was cut off."""
    command = f"pyinfra {this_run().command_line.inventory or 'inventory.py'} playbooks/restore.py"
    return cut_off(this.member.name, parse_restored(this.profile.restored), command)


def end_restore(this: This) -> None:
    """After all services answer: a restore of this host is done."""
    note = parse_restored(this.profile.restored)
    ended(name="Backup | End of a restore", house=this.house, note=note, roles=tuple(sorted(this.member.roles)))


def _takes_part(this: This) -> bool:
    return bool(this.house.backup_recipients) and any(map(this.has, ROLES))
