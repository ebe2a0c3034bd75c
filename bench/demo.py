"""`make demo` with everything in the cache: from nothing to an answer, as who has just met the project sees it."""

from __future__ import annotations

from pathlib import Path

from bench.measure import Bench, Row, side_by_side


def rows(bench: Bench, runs: int, work: Path) -> list[Row]:
    """The whole of `make demo`."""

    def demo() -> float:
        bench.down()
        return bench.timed("make", "--no-print-directory", "demo")[0]

    taken = side_by_side(runs, {"make demo": demo})["make demo"]
    return [Row("make demo with the cache", taken.median, " s", 240, (taken,))]
