"""Every check with what was expected and seen, and the table at the end."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Entry:
    """One check. `answered`: what answered, in words; `refused`: how many connections did not come through."""

    test: str
    source: str
    target: str
    expected: str
    observed: str
    remedy: str
    holds: bool
    answered: tuple[str, ...] = ()
    refused: int = 0


@dataclass
class Ledger:
    """The checks of a run, in order."""

    entries: list[Entry] = field(default_factory=list)

    def check(self, request: pytest.FixtureRequest) -> Check:
        return Check(request.node.nodeid, self.entries.append)


@dataclass(frozen=True)
class Check:
    """Records a check and fails the test, with expectation, observation and next step, when it does not hold."""

    test: str
    record: Callable[[Entry], None]

    def __call__(
        self,
        holds: bool,
        *,
        source: str,
        target: str,
        expected: str,
        observed: object,
        remedy: str,
        answered: Iterable[str] = (),
        refused: int = 0,
    ) -> None:
        __tracebackhide__ = True
        entry = Entry(self.test, source, target, expected, str(observed), remedy, bool(holds), tuple(answered), refused)
        self.record(entry)
        if not entry.holds:
            pytest.fail(
                f"{source} -> {target}\nexpected: {expected}\nobserved: {entry.observed}\nnext:     {remedy}",
                pytrace=False,
            )


def summary(entries: Iterable[Entry], width: int) -> str:
    """Per vantage point and target: what answered, how many connections were refused, how many checks held."""
    rows: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        rows.setdefault((entry.source, entry.target), []).append(entry)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("from", "to", "answered"):
        table.add_column(title)
    for title in ("refused", "checks held"):
        table.add_column(title, justify="right")
    for (source, target), found in rows.items():
        answered = dict.fromkeys(word for entry in found for word in entry.answered)
        refused = sum(entry.refused for entry in found)
        held = sum(entry.holds for entry in found)
        table.add_row(
            source,
            target,
            ", ".join(answered) or "-",
            f"{refused:,}" if refused else "-",
            f"{held} of {len(found)}" + ("" if held == len(found) else "  FAILED"),
        )
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
