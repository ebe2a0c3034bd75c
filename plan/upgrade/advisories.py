"""Known holes in programs, and how old the pins are. All of it is compared on this computer, without a network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from plan.upgrade.versions import Step, order

#: Pins that nobody has looked at for so many days are old: OpenClaw alone has several advisories a month.
OLD_DAYS = 45


@dataclass(frozen=True)
class Advisory:
    """A known hole in a program. Versions before `fixed_in` have it. `date`: when the fixed version came out, as far as
    it is known: a day, a month or a year. `source`: where it can be read. `says`: one plain sentence."""

    id: str
    program: str
    fixed_in: str
    date: str
    source: str
    says: str

    def concerns(self, version: str) -> bool:
        return order(version) < order(self.fixed_in)

    def __str__(self) -> str:
        return f"{self.id} ({self.date}, {self.source}): {self.says}"


def open_holes(program: str, version: str, known: Iterable[Advisory]) -> tuple[Advisory, ...]:
    """The known holes of a version, newest fix first."""
    found = [each for each in known if each.program == program and each.concerns(version)]
    return tuple(sorted(found, key=lambda each: order(each.fixed_in), reverse=True))


def closed_by(step: Step, known: Iterable[Advisory]) -> tuple[Advisory, ...]:
    """The known holes that an upgrade closes, newest first."""
    return tuple(each for each in open_holes(step.program, step.old, known) if not each.concerns(step.new))


def why(step: Step, known: Iterable[Advisory]) -> str:
    """Why a version changes, in one sentence."""
    closed = closed_by(step, known)
    if not closed:
        return "this project's pin has changed; no hole of the old version is known (artifacts/advisories.yaml)"
    first, *more = closed
    return f"it closes {first}{f' And {len(more)} more, see artifacts/advisories.yaml' if more else ''}"


def hole_line(host: str, program: str, version: str, known: Iterable[Advisory], pinned: str) -> str:
    """What `make status` says of a host's program with known holes; "" for one without."""
    found = open_holes(program, version, known)
    if not found:
        return ""
    first = found[0]
    more = f" ({len(found) - 1} more)" if found[1:] else ""
    step = "run the deployment" if not first.concerns(pinned) else "git pull, then run the deployment"
    return f"{host}: {program} {version} has a known hole, closed in {first.fixed_in}: {first}{more} Next: {step}"


def age_line(checked: date, today: date) -> str:
    """What `make status` says of pins that nobody has looked at for long; "" for newer ones."""
    days = (today - checked).days
    if days <= OLD_DAYS:
        return ""
    return (
        f"The versions in artifacts/pins.yaml were last compared with newer ones on {checked}, {days} days ago. Newer "
        "versions may close holes that are not known here. Next: git pull, then run the deployment"
    )
