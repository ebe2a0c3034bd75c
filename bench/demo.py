"""Measures `make demo` with a filled cache: from no lab to the first answer, as a new user sees it."""

from __future__ import annotations

from pathlib import Path

from bench.measure import Bench, Row, side_by_side


def rows(bench: Bench, runs: int, work: Path) -> list[Row]:
    """The time of a complete `make demo`."""

    def demo() -> float:
        bench.down()
        return bench.timed("make", "--no-print-directory", "demo")[0]

    taken = side_by_side(runs, {"make demo": demo})["make demo"]
    return [Row("make demo with the cache", taken.median, " s", 240, (taken,))]
