"""Backup: what cannot be made again, encrypted on the hosts for keys that no host has, on demand and by a timer."""

from __future__ import annotations

import json

from operations.backup.ended import ended
from operations.backup.on_host import make_script
from operations.engine.component import component
from operations.engine.one_run import OWN_BACKUP
from operations.engine.run import this_run
from plan.backup.manifest import FORMAT
from plan.backup.places import (
    ARCHIVES,
    DONE,
    ENCRYPTED,
    HEADSCALE,
    KEPT,
    KEPT_AT,
    PLAIN,
    PROGRAM,
    PROGRAM_SETTINGS,
    SERVICE,
    TIMER,
    WORK,
)
from plan.backup.restoring import RESTORED, ROLES, cut_off, parse_restored
from plan.backup.retention import MONTHS, NEWEST, OLD_DAYS
from plan.backup.schedule import INTERVALS
from plan.base.profile import LAST_RUN
from plan.engine.claims import UNITS
from plan.engine.errors import SettingError
from plan.engine.stamp import PATH as STAMP
from plan.engine.want import Component, Directory, File, Unit
from tasks.ca import certificate_path
from tasks.engine.hosts import This
from tasks.engine.texts import render, static
from tasks.openclaw import TOKEN

#: Seconds that a host's own backup waits for the end of a run.
PATIENCE = 1800
STATE = WORK.rpartition("/")[0]


def deploy(this: This) -> None:
    """What a backup needs on this host: programs, a folder that holds nothing between two backups, and the timer of the
    backups that the host makes by itself. Where it makes none, the timer of an earlier setting is stopped."""
    wanted = Component(units=() if makes_its_own(this) else (Unit(TIMER, stopped=True),))
    if _takes_part(this):
        packages = ("age", "sqlite3") if this.has("coordinator") else ("age",)
        work = Directory(WORK, mode="0700", empty=True)
        wanted = Component(packages=packages, directories=(work,), units=wanted.units)
    component(name="Backup | Programs, folder", want=lambda: wanted)
    if makes_its_own(this):
        own = _own(this)
        component(name="Backup | Timer", want=lambda: own)


def roles_of(this: This) -> tuple[str, ...]:
    """The roles of a host of which a backup has something."""
    return tuple(role for role in ROLES if this.has(role))


def makes_its_own(this: This) -> bool:
    """Whether this host makes backups by itself."""
    return bool(this.house.backup_every) and _takes_part(this)


def timer() -> Unit:
    """The unit of the timer. The service takes its program and settings anew each time."""
    return Unit(TIMER, inputs=tuple(f"{UNITS}/{name}" for name in (SERVICE, TIMER)))


def look(this: This) -> list[tuple[str, ...]]:
    """What the host's own look does about backups and restores: it knows when it was last part of one, and when it made
    its own."""
    found: list[tuple[str, ...]] = [("backup", DONE, str(OLD_DAYS))] if _takes_part(this) else []
    if makes_its_own(this):
        found.append(("kept", KEPT_AT, TIMER, SERVICE, str(INTERVALS[this.house.backup_every].late)))
    if roles_of(this):
        found.append(("restored", RESTORED))
    return found


def check_whole(this: This) -> SettingError | None:
    """The error when a restore of this host was cut off."""
    command = f"pyinfra {this_run().command_line.inventory or 'inventory.py'} playbooks/restore.py"
    return cut_off(this.member.name, parse_restored(this.profile.restored), command)


def end_restore(this: This) -> None:
    """After all services answer: a restore of this host is done."""
    note = parse_restored(this.profile.restored)
    ended(name="Backup | End of a restore", house=this.house, note=note, roles=tuple(sorted(this.member.roles)))


def _takes_part(this: This) -> bool:
    return bool(this.house.backup_recipients) and bool(roles_of(this))


def _own(this: This) -> Component:
    house, member, roles = this.house, this.member, roles_of(this)
    settings = {
        "about": {"format": FORMAT, "house": house.name, "domain": house.domain},
        "host": member.name,
        "roles": roles,
        "recipients": house.backup_recipients,
        "folder": member.backup_folder,
        "mounted": member.backup_folder_mounted,
        "newest": NEWEST,
        "months": MONTHS,
        "authority": certificate_path(house),
        "stamp": STAMP,
        "state": STATE,
        "encrypted": ENCRYPTED,
        "note": KEPT_AT,
        "script": make_script(roles, house.backup_recipients, TOKEN),
    }
    writes = [STATE, *((ARCHIVES,) if "gateway" in roles else ()), *((HEADSCALE,) if "coordinator" in roles else ())]
    service = render(
        "backup/private-ai-backup.service.j2",
        program=PROGRAM,
        settings=PROGRAM_SETTINGS,
        patience=PATIENCE,
        last_run=LAST_RUN,
        runs=LAST_RUN.split("/")[2],
        says=OWN_BACKUP,
        plain=PLAIN,
        encrypted=ENCRYPTED,
        # A disk that is not mounted may have no folder: the program says so better than systemd.
        writes=[*writes, f"-{member.backup_folder}"],
    )
    every = house.backup_every
    times = render("backup/private-ai-backup.timer.j2", every=every, calendar=INTERVALS[every].calendar)
    return Component(
        directories=(
            Directory("/etc/private-ai"),
            *((Directory(KEPT, mode="0700"),) if member.backup_folder == KEPT else ()),
        ),
        files=(
            File(PROGRAM, static("backup/private-ai-backup.py"), mode="0755"),
            File(PROGRAM_SETTINGS, json.dumps(settings, indent=2) + "\n"),
            File(f"{UNITS}/{SERVICE}", service),
            File(f"{UNITS}/{TIMER}", times),
        ),
        units=(timer(),),
    )
