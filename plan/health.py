"""How a host is by its own account: limits, the state that it leaves, and the table of all hosts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from plan.engine.terminal_text import plain
from plan.house.access_table import ROLES
from plan.house.house import Member

State = Literal["ok", "warning", "failed"]

#: Where a host leaves its state: state.json for programs, state.txt for people.
FOLDER = "/var/lib/private-ai/health"
SERVICE = "private-ai-health.service"
TIMER = "private-ai-health.timer"
#: Minutes between two looks.
EVERY_MINUTES = 15
#: Minutes after which a state tells nothing any more: two looks are missing.
OLD_MINUTES = 40
#: Seconds until a look is repeated that brought bad news.
AGAIN_S = 30
#: Days below which a server's certificate is a failure. The warning begins where a run renews it.
CERTIFICATE_FAIL_DAYS = 7
#: Days below which the authority's own end is a warning: a new one has to be brought to every device.
AUTHORITY_WARN_DAYS = 180
#: Days below which the end of a node's key is a warning.
KEY_WARN_DAYS = 14
#: MiB free on a file system: programs, images and logs need some.
DISK_WARN_MIB = 1024
DISK_FAIL_MIB = 256

HEAD = ("host", "roles", "state", "not well", "looked at", "certificates")


@dataclass(frozen=True)
class Seen:
    """One thing that a host looked at. `days`: until it ends, -1 when it has; None where nothing ends."""

    check: str
    state: State
    says: str
    days: int | None


@dataclass(frozen=True)
class Look:
    """What a host saw. Times are seconds since 1970, by its own clock: of the look, of the last change of `state`."""

    time: int
    state: State
    since: int
    checks: tuple[Seen, ...]


def look_of(text: str) -> Look:
    """What state.json says. Raises ValueError when it is not understood."""
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
    """What came of asking a host: a look with the host's time now, or why there is none."""

    reached: bool
    look: Look | None = None
    now: int = 0
    why: str = ""


@dataclass(frozen=True)
class Line:
    """A host in the table. `state`: also "old", "unknown", "not reached". `bad`: the house is not well for it."""

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


def line(member: Member, answer: Answer) -> Line:
    """A host's line. A person's computer that is off is no failure; a server is, and so is a state that is too old."""
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
    )


def ago(seconds: int) -> str:
    """How long ago, in the largest unit that leaves a number above 1."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


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
    )
