"""Measures the speed that the project promises. Run all parts, or some: python -m bench [--runs N] [PART...]"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import delay, demo, first, growth, message, noop, verify
from bench.measure import Bench, BenchError, Row, show, told, write

Part = Callable[[Bench, int, Path], list[Row]]
PARTS: dict[str, Part] = {
    "noop": noop.rows,
    "delay": delay.rows,
    "verify": verify.rows,
    "growth": growth.rows,
    "message": message.rows,
    "first": first.rows,
    "demo": demo.rows,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="how often each thing is measured (default: 5)")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; accepted: {', '.join(PARTS)}")
    if options.runs < 1:
        parser.error(f"--runs {options.runs}: at least 1")
    bench, rows = Bench(), []
    try:
        bench.up()
        with tempfile.TemporaryDirectory(prefix="bench-") as work:
            for name in options.parts or PARTS:
                told.print(f"--- {name}")
                found = PARTS[name](bench, options.runs, Path(work))
                write(found, options.runs)
                rows += found
    except BenchError as error:
        told.print(str(error), markup=False)
        return 1
    finally:
        if not options.keep:
            bench.down()
    show(rows)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
