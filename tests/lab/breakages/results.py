"""The results of the breakages: the table at the end of a run, and reports/breakages.json."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.lab.breakages.breakage import Breakage, Topology


@dataclass(frozen=True)
class Result:
    """The result of one breakage. `caught_by`: the demanded checks that failed. `repaired_by`: the operations that
    changed something."""

    topology: Topology
    breakage: Breakage
    caught_by: Sequence[str]
    seconds: float
    repaired_by: Sequence[str]
    complaints: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """The entry in reports/breakages.json."""
        return {
            "breakage": self.breakage.id,
            "what": self.breakage.what,
            "topology": self.topology,
            "host": self.breakage.host(self.topology),
            "caught_by": list(self.caught_by),
            "repaired_by": list(self.repaired_by),
            "by_hand": self.breakage.by_hand.why if self.breakage.by_hand else "",
            "seconds": round(self.seconds, 1),
            "complaints": list(self.complaints),
        }


#: A test's report has its result under this name, for the process that prints the table.
PROPERTY = "breakage"


def table(results: Sequence[Mapping[str, Any]], width: int) -> str:
    """A table with one line for each breakage, from results as JSON."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "breakage", "caught by", "repaired by"):
        made.add_column(title, overflow="fold")
    made.add_column("s", justify="right")
    for each in results:
        repaired = ["a person"] * bool(each["by_hand"]) + each["repaired_by"]
        made.add_row(
            "FAILED" if each["complaints"] else "ok",
            f"{each['breakage']} ({each['topology']})",
            ", ".join(each["caught_by"]) or "nothing",
            ", ".join(repaired) or "nothing",
            f"{each['seconds']:.0f}",
        )
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False, markup=False).print(made)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def write(results: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write the results to a file, as JSON."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n")
