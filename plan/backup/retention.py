"""Which backups are kept: the newest ones, and one of each month for a year."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

NEWEST, MONTHS = 10, 12
#: Days after which `make status` warns.
OLD_DAYS = 30


def superfluous(made: Iterable[datetime]) -> list[datetime]:
    """The times of backups that may go, oldest first. The newest always stays, whatever a clock said.

    Of each of the last MONTHS months that have a backup the newest is kept.
    """
    times = sorted(set(made), reverse=True)
    kept = set(times[:NEWEST])
    months: dict[tuple[int, int], datetime] = {}
    for time in times:
        months.setdefault((time.year, time.month), time)
    kept |= set(list(months.values())[:MONTHS])
    return sorted(set(times) - kept)
