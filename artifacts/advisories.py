"""Reads artifacts/advisories.yaml: the known holes of the programs that this project pins."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import yaml

from artifacts.errors import PinError
from plan.upgrade.advisories import Advisory
from plan.upgrade.versions import PROGRAMS, order

FILE = Path(__file__).resolve().parent / "advisories.yaml"
_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")


@cache
def load(file: Path = FILE) -> tuple[Advisory, ...]:
    """All known holes. Raises PinError when the file, or something in it, is missing or has another form."""
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        return tuple(_advisory(entry) for entry in data["advisories"])
    except (OSError, KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise PinError(f"{file}: not a file of advisories ({type(error).__name__}: {error})") from error


def _advisory(entry: dict[str, object]) -> Advisory:
    found = Advisory(**{name: str(entry[name]) for name in ("id", "program", "fixed_in", "date", "source", "says")})
    order(found.fixed_in)
    if found.program not in PROGRAMS or not _DATE.fullmatch(found.date) or not all(vars(found).values()):
        raise ValueError(f"the entry {found.id!r}")
    return found
