"""The health of hosts, as each host finds it by itself: limits, the state file on the host, and the table of all
hosts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from plan.backup.retention import OLD_DAYS
from plan.ca import SWAP_DAYS
from plan.engine.terminal_text import plain
from plan.house.access_table import ROLES
from plan.house.house import House, Member
from plan.upgrade.versions import Installed

State = Literal["ok", "warning", "failed"]

#: The folder on a host with the result of its last look: state.json for programs, state.txt for people.
FOLDER = "/var/lib/private-ai/health"
#: The certificates of the house's authorities that a host trusts; there are two while the house gets a new one.
TRUSTED = "/usr/local/share/ca-certificates/private-ai-*.crt"
SERVICE = "private-ai-health.service"
TIMER = "private-ai-health.timer"
#: Minutes between two looks.
EVERY_MINUTES = 15
#: Minutes after which a state counts as old: by then two looks are missing.
OLD_MINUTES = 40
#: Seconds after which a host repeats a look whose state got worse.
AGAIN_S = 30
#: A server's certificate that is valid for fewer days is a warning, or a failure. The host renews it long before that
#: (facts/ca.py). A host that has no authority does so later, see SUCCESSOR_WARN_DAYS.
CERTIFICATE_WARN_DAYS = 90
CERTIFICATE_FAIL_DAYS = 7
#: The same for a certificate whose successor takes its place when fewer than SWAP_DAYS are left.
SUCCESSOR_WARN_DAYS = SWAP_DAYS // 2
#: An authority that is valid for fewer days is a warning. It is early, because people have to bring a new authority to
#: every device.
AUTHORITY_WARN_DAYS = 180
#: A node's key that is valid for fewer days is a warning.
KEY_WARN_DAYS = 14
#: A file system with less free space, in MiB, is a warning or a failure: programs, images and logs need some.
DISK_WARN_MIB = 1024
DISK_FAIL_MIB = 256

HEAD = ("host", "roles", "state", "not well", "looked at", "certificates", "backup")


@dataclass(frozen=True)
class Seen:
    """The result of one check of a look. `days`: until the thing expires, -1 when it has expired; None for a thing that
    does not expire. For a backup: how many days old it is."""

    check: str
    state: State
    says: str
    days: int | None


@dataclass(frozen=True)
class Look:
    """The result of one look. `time` is when the host looked, `since` is when `state` changed last; both are seconds
    since 1970 by the host's clock."""

    time: int
    state: State
    since: int
    checks: tuple[Seen, ...]


def look_of(text: str) -> Look:
    """The look in the text of state.json. Raises ValueError when the text does not have the expected form."""
    try:
        raw = json.loads(text)
        checks = tuple(
            Seen(str(each["check"]), _state(each["state"]), str(each["says"]), _days(each.get("days")))
            for each in raw["checks"]
        )
        if not checks:
            raise ValueError("it holds no check")
        return Look(int(raw["time"]), _state(raw["state"]), int(raw["since"]), checks)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the state is not understood: {error!r}") from error


def _state(word: Any) -> State:
    if word not in ("ok", "warning", "failed"):
        raise ValueError(f"no state: {word}")
    return word  # type: ignore[no-any-return]


def _days(value: Any) -> int | None:
    return None if value is None else int(value)


@dataclass(frozen=True)
class Answer:
    """A host's answer: its last look and the host's time `now`, or in `why` the reason why there is no look.
    `installed`: the house's programs there."""

    reached: bool
    look: Look | None = None
    now: int = 0
    why: str = ""
    installed: tuple[Installed, ...] = ()
    #: Path -> digest, of the house's authorities that the host trusts, and on the coordinator of those that there are.
    certificates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A host's row in the table. `state`: a State, or "old", "unknown", "not reached". `bad`: the house counts as not
    well because of this host."""

    host: str
    roles: tuple[str, ...]
    state: str
    bad: bool
    not_well: tuple[str, ...]
    #: Seconds since the look and since the last change of the state; None without a look.
    age_s: int | None
    unchanged_s: int | None
    #: Certificate -> days left.
    certificates: dict[str, int]
    #: Days since the last backup; None where there was none, and where none is looked for.
    backup_days: int | None = None
    #: Days since the host made its last own backup; None where there was none, and where it makes none.
    own_backup_days: int | None = None


def line(member: Member, answer: Answer) -> Line:
    """A host's row. A client that cannot be reached is no failure, since people switch their computers off. A server
    that cannot be reached, and an old state, are failures."""
    roles = tuple(role for role in ROLES if role in member.roles)
    look = answer.look
    if look is None:
        state, bad = ("unknown", True) if answer.reached else ("not reached", member.is_server)
        return Line(member.name, roles, state, bad, (answer.why,), None, None, {})
    age = answer.now - look.time
    old = not -60 <= age <= OLD_MINUTES * 60
    said = tuple(f"{each.check} {each.says}" for each in look.checks if each.state != "ok")
    if old:
        said = (f"the last look was {ago(age)}, one is due every {EVERY_MINUTES} min, see {TIMER}", *said)
    return Line(
        host=member.name,
        roles=roles,
        state="old" if old else look.state,
        bad=old or look.state == "failed",
        not_well=said,
        age_s=age,
        unchanged_s=answer.now - look.since,
        certificates={
            each.check.removeprefix("certificate "): each.days
            for each in look.checks
            if each.check.startswith("certificate ") and each.days is not None
        },
        backup_days=_age(look, "backup"),
        own_backup_days=_age(look, "own backup"),
    )


def _age(look: Look, check: str) -> int | None:
    return next((each.days for each in look.checks if each.check == check), None)


def ago(seconds: int) -> str:
    """How long ago something was, in the largest unit in which the number is 2 or more."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def backup_here(made: datetime | None, now: datetime) -> tuple[str, bool]:
    """In words, how old the newest backup in this computer's folder is, and whether that is a warning."""
    where = "in the folder backups of this computer"
    if made is None:
        return f"There is no backup {where}. Next: make backup. Those made with TO=FOLDER are not looked for", True
    age = now - made
    if age < -timedelta(hours=1):
        return f"The newest backup {where} is of a time that has not come yet: see the clocks", True
    said = f"The newest backup {where} was made {ago(max(0, int(age.total_seconds())))}"
    return (f"{said}. Next: make backup", True) if age.days > OLD_DAYS else (said, False)


def table_rows(lines: Iterable[Line]) -> list[tuple[str, ...]]:
    """The head of the table and a row for each host, in words."""
    return [HEAD, *(_row(each) for each in lines)]


def _row(each: Line) -> tuple[str, ...]:
    return (
        each.host,
        ", ".join(each.roles),
        each.state,
        plain("\n".join(each.not_well)),
        "" if each.age_s is None else ago(each.age_s),
        f"{min(each.certificates.values())} days" if each.certificates else "",
        "\n".join(
            f"{what}{days} days old"
            for what, days in (("", each.backup_days), ("own: ", each.own_backup_days))
            if days is not None
        ),
    )


def new_authority(house: House, answers: Mapping[str, Answer]) -> list[str]:
    """Who has the new authority, in words, while the house is getting one; else nothing. `answers`: of hosts, by name.

    Nobody knows it of devices: they are not asked.
    """
    known = answers.get(house.coordinator.name, Answer(False)).certificates
    there = {path.rpartition("/")[2]: digest for path, digest in known.items() if "/ca-certificates/" not in path}
    if not there.keys() & {"new.crt", "old.crt"}:
        return []
    wanted = there.get("new.crt", there.get("ca.crt"))
    have, lack, unknown = list[str](), list[str](), list[str]()
    for member in house.members:
        answer = answers.get(member.name, Answer(False))
        trusted = {digest for path, digest in answer.certificates.items() if "/ca-certificates/" in path}
        (have if wanted in trusted else lack if answer.look else unknown).append(member.name)
    unknown += [f"{device.name} (a device)" for device in house.devices]
    lines = ["the house is getting a new authority, see docs/rotation.md; trusted by: " + (", ".join(have) or "nobody")]
    lines += [f"not trusted by: {', '.join(lack)}. Next: run the deployment"] if lack else []
    return [*lines, *([f"not known of: {', '.join(unknown)}"] if unknown else [])]
