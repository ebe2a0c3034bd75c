"""What an upgrade leaves on a host: a folder for each program, and in it a note that says how far it has come."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from plan.engine.errors import SettingError
from plan.engine.terminal_text import line
from plan.upgrade.versions import Installed, Step, order

#: FOLDER/PROGRAM has all of one upgrade, for root alone: what was there before, what comes, the copy of the data.
FOLDER = "/var/lib/private-ai/upgrade"
#: The unit that works on an upgrade is UNIT-PROGRAM. After a loss of power, UNIT-boot-PROGRAM puts things back.
UNIT = "private-ai-upgrade"

#: The phases of an upgrade. Until SWITCHED nothing but the program's rest has changed. The last three are its end:
#: the new version is there; the old one is back and does what it did; the old one is back and does not.
PHASES = ("ready", "look", "stop", "copy", "switch", "start", "check", "return", "done", "back", "stuck")
SWITCHED = ("switch", "start", "check", "return")
ENDED = ("done", "back", "stuck")
#: What a run says when an upgrade has reached a phase.
WORDS = {
    "look": "what the old version does is noted",
    "stop": "the old version stops",
    "copy": "its data are copied",
    "switch": "the new version is put into place",
    "start": "it starts",
    "check": "it has to do what the old version did",
    "return": "the old version comes back",
}

_FIRST = re.compile(r"([a-z]+) (\S+) (\S+) ([a-z]+) (\d{1,11}) (\d{1,15})")


def at_boot(program: str) -> str:
    """The name of the unit that takes an upgrade back at a boot."""
    return f"{UNIT}-boot-{program}.service"


@dataclass(frozen=True)
class Note:
    """One upgrade on one host. `when`: of its last phase, seconds since 1970. `size`: of the copy of the data, bytes.
    `why`: the reason for an end that was not wanted. `at_work`: the host is working on it now."""

    program: str
    old: str
    new: str
    phase: str
    when: int
    size: int
    why: str = ""
    at_work: bool = False

    @property
    def ended(self) -> bool:
        return self.phase in ENDED

    @property
    def backward(self) -> bool:
        """Whether it was a person's way back (plan/upgrade/going_back.py)."""
        return order(self.new) < order(self.old)

    @property
    def at(self) -> str:
        return datetime.fromtimestamp(self.when, UTC).strftime("%Y-%m-%d %H:%M UTC")


def parse_notes(lines: Iterable[str]) -> tuple[Note, ...]:
    """The notes of a host. Raises ValueError for text of another form."""
    found: list[Note] = []
    for text in lines:
        first = _FIRST.fullmatch(text)
        if first and first[4] in PHASES:
            found.append(Note(first[1], first[2], first[3], first[4], int(first[5]), int(first[6])))
        elif not found:
            raise ValueError(f"the note {text!r}")
        elif text == "at work":
            found[-1] = replace(found[-1], at_work=True)
        else:
            found[-1] = replace(found[-1], why=f"{found[-1].why} {text}".strip())
    return tuple(found)


def as_left(installed: Iterable[Installed], notes: Sequence[Note]) -> tuple[Installed, ...]:
    """The programs of a host as they are once upgrades that were cut off are taken back."""
    cut = {note.program: note.old for note in notes if not note.ended}
    return tuple(replace(each, version=cut.get(each.program, each.version)) for each in installed)


def busy(host: str, notes: Iterable[Note]) -> list[SettingError]:
    """Upgrades that the host is working on: an earlier run has begun them and is gone, or a boot takes them back."""
    return [
        SettingError(
            f"host {host}: upgrade of {note.program}",
            f"{note.old} -> {note.new} is at work since {note.at}",
            "an upgrade that has ended: it ends or goes back by itself",
            f"wait a minute, then run this again; to watch it: journalctl -f -u {UNIT}-{note.program}",
        )
        for note in notes
        if note.at_work
    ]


def left(host: str, notes: Iterable[Note], wanted: Iterable[Step]) -> list[str]:
    """Warnings about what earlier upgrades have left."""
    again = {step.program: step.new for step in wanted}
    found = []
    for note in notes:
        what = f"host {host}: the upgrade of {note.program} from {note.old} to {note.new}"
        if not note.ended:
            if not note.at_work:
                found.append(f"{what} was cut off on {note.at}. This run first puts back what it had changed.")
        elif note.phase != "done" and again.get(note.program) == note.new:
            not_well = " The old version did not do then what it did before." if note.phase == "stuck" else ""
            found.append(f"{what} was taken back on {note.at}: {line(note.why)}.{not_well} This run tries again.")
        elif note.phase == "done" and note.backward and again.get(note.program) == note.old:
            found.append(
                f"host {host}: {note.program} went back from {note.old} to {note.new} on {note.at}, as somebody asked "
                "for. This run upgrades it again."
            )
    return found
