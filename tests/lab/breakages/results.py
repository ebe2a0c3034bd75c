"""What came of each breakage: the table at the end of a run, and reports/breakages.json."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.lab.breakages.breakage import Breakage, Topology


@dataclass(frozen=True)
class Result:
    """One cycle. `caught_by`: the demanded checks that failed; `repaired_by`: operations that changed something."""

    topology: Topology
    breakage: Breakage
    caught_by: Sequence[str]
    seconds: float
    repaired_by: Sequence[str]
    complaints: Sequence[str]


RESULTS = pytest.StashKey[list[Result]]()


def table(results: Sequence[Result], width: int) -> str:
    """One line per breakage."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "breakage", "caught by", "repaired by"):
        made.add_column(title, overflow="fold")
    made.add_column("s", justify="right")
    for each in results:
        repaired = ["a person", *each.repaired_by] if each.breakage.by_hand else each.repaired_by
        made.add_row(
            "FAILED" if each.complaints else "ok",
            f"{each.breakage.id} ({each.topology})",
            ", ".join(each.caught_by) or "nothing",
            ", ".join(repaired) or "nothing",
            f"{each.seconds:.0f}",
        )
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False, markup=False).print(made)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def write(results: Sequence[Result], file: Path) -> None:
    """The same as JSON."""
    file.parent.mkdir(exist_ok=True)
    entries = [
        {
            "breakage": each.breakage.id,
            "what": each.breakage.what,
            "topology": each.topology,
            "host": each.breakage.host(each.topology),
            "caught_by": list(each.caught_by),
            "repaired_by": list(each.repaired_by),
            "by_hand": each.breakage.by_hand.why if each.breakage.by_hand else "",
            "seconds": round(each.seconds, 1),
            "complaints": list(each.complaints),
        }
        for each in results
    ]
    file.write_text(json.dumps(entries, indent=2) + "\n")
