"""Makes the report of a verification as text for a terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from plan.engine.terminal_text import plain
from tests.verify.ledger import Entry, Status
from tests.verify.report import WORDS, About, Cell, Run, apart, counts, matrix, together, verdict


def as_text(run: Run, entries: Sequence[Entry], about: About, width: int, colour: bool = False) -> str:
    """The report for a terminal of `width` columns: who reaches what, skipped checks, warnings, failures, the
    result."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=colour,
        color_system="standard" if colour else None,
    )
    console.print(_reach(run.services, entries))
    styles: dict[Status, str] = {"skip": "", "warn": "yellow", "fail": "bold red"}
    for status, style in styles.items():
        for same in together(entry for entry in entries if entry.status == status):
            entry, ids = same[0], ", ".join(each.id for each in same)
            way = f"{entry.source} -> {entry.target}" if entry.source else ""
            console.print(Text(f"\n{WORDS[status].upper()} {ids}", style), _text(way))
            facts = {"expected": entry.expected, "observed": entry.observed, "next": entry.remedy}
            console.print(_facts({"why": entry.why} if status == "skip" else facts))
    if about.error:
        console.print(_text(f"\nThe report does not have what the hosts say about themselves: {about.error}"))
    level, sentence = verdict(run, entries)
    style = {"fail": "bold red", "warn": "yellow", "skip": "yellow", "pass": "bold green"}[level]
    said = [f"{number} {WORDS[status]}" for status, number in counts(entries).items()]
    said += [f"{run.not_run} not run"] if run.not_run else []
    said += [f"not probed: {' '.join(run.unprobed)}"] if run.unprobed else []
    console.print(Text(f"\n{sentence}", style), _text(f"({', '.join(said)}; {run.seconds:.0f} s)"))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _reach(services: Sequence[str], entries: Sequence[Entry]) -> Table:
    """The table of who reaches what, with a row for each vantage point and host. Services are names in a cell and not
    columns, so that the table fits a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, most in (("from", 24), ("to", 16), ("reached", None), ("refused", None)):
        table.add_column(title, overflow="fold", max_width=most)
    lines, aside = apart(matrix(services, entries))
    for line in lines:
        rows: list[tuple[str, Text, Text]] = []
        cells: dict[str, dict[str, list[Text]]] = {}
        for service, cell in zip(services, line.cells, strict=True):
            host, _, name = service.partition("/")
            if cell.level == "bad":
                side = "reached" if cell.words.startswith("reached") else "refused"
                cells.setdefault(host, {}).setdefault(side, []).append(Text(f"{name} ({cell.words.upper()})", "red"))
            elif cell.level != "none":
                cells.setdefault(host, {}).setdefault(cell.level, []).append(Text(name))
        for host, found in cells.items():
            reached, refused = (Text(", ").join(found.get(side, [Text("-")])) for side in ("reached", "refused"))
            rows.append((host, reached, refused))
        if line.rest.level != "none":
            rows.append(("all else", *_sides(line.rest)))
        for number, row in enumerate(rows):
            table.add_row(_text(line.source if number == 0 else ""), *row)
    for sources, cell in aside:
        table.add_row(_text(", ".join(sources)), "all else", *_sides(cell))
    return table


def _sides(rest: Cell) -> tuple[Text, Text]:
    """The result for all other targets, in the column "reached" or "refused"."""
    words, none = _text(rest.words), Text("-")
    words.stylize("red" if rest.level == "bad" else "")
    return (none, words) if rest.level == "refused" else (words, none)


def _facts(facts: Mapping[str, str]) -> Padding:
    """Names and values in two columns. Leaves out empty values."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, min_width=9)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(f"{name}:", _text(value))
    return Padding(table, (0, 0, 0, 2))


def _text(words: str) -> Text:
    return Text(plain(words))
