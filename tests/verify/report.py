"""Makes the report of a verification from its checks, as JSON and as a page. It asks no host and writes no file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from plan.engine.terminal_text import plain
from tests.verify.ledger import Entry, Status, Way

TEMPLATES = Path(__file__).resolve().parents[2] / "templates" / "verification"
#: Modules of checks in the order of the report -> the module's heading.
MODULES = {
    "outside": "From a machine outside the VPN",
    "container": "From inside the gateway's container",
    "vpn": "From one node of the VPN to another",
    "host": "On each host itself",
    "firewall": "The firewall's rules",
    "upgrade": "Upgrades of programs",
    "egress": "The way out of each service account",
    "headscale": "Headscale: nodes and policy",
    "tailscale": "Tailscale: membership and relay",
    "ca": "Certificates",
    "ollama": "Ollama: model files and settings",
    "openclaw": "OpenClaw: the cage and its settings",
    "backup": "Backups that hosts keep",
    "restore": "Restores that have not ended",
    "message": "A message from end to end",
}
#: The report marks a certificate with fewer days left. Every run of the deployment renews it long before that.
FEW_DAYS = 90
WORDS: dict[Status, str] = {"fail": "failed", "warn": "warned", "skip": "skipped", "pass": "held"}


@dataclass(frozen=True)
class ModelAbout:
    """A model on a model host: its context in tokens, and why it was chosen."""

    host: str
    name: str
    context: int
    why: str


@dataclass(frozen=True)
class DateAbout:
    """When a certificate or key ends. `ends`: an ISO date. `days`: from the verification to then."""

    what: str
    host: str
    ends: str
    days: int


@dataclass(frozen=True)
class About:
    """What hosts say about themselves. `versions`: host -> program -> version.

    `connections`, `commands`: host -> how many the verification needed. `error`: why something is missing, or "".
    """

    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    models: Sequence[ModelAbout] = ()
    dates: Sequence[DateAbout] = ()
    connections: Mapping[str, int] = field(default_factory=dict)
    commands: Mapping[str, int] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Run:
    """What was verified, and when.

    `hosts`: host -> roles. `services`: HOST/ID for each row of the access table at each host. `started`: in UTC.
    `not_run`: how many checks the command line left out, or did not begin because the run was stopped.
    """

    house: str
    inventory: str
    hosts: Mapping[str, Sequence[str]]
    probed: Sequence[str]
    outside: str
    services: Sequence[str]
    started: datetime
    seconds: float
    not_run: int = 0

    @property
    def unprobed(self) -> list[str]:
        return [name for name in self.hosts if name not in self.probed]

    @property
    def partial(self) -> bool:
        """Whether the run covers only a part of the house."""
        return bool(self.not_run or self.unprobed)


@dataclass(frozen=True)
class Cell:
    """The result for one vantage point and one service, in words. `level`: "reached" or "refused" when that is as the
    table says, "bad" when it is not, "none" when nothing was tried."""

    words: str
    level: str


@dataclass(frozen=True)
class Line:
    """The row of one vantage point: a cell for each service, and one for all other targets."""

    source: str
    cells: tuple[Cell, ...]
    rest: Cell


def counts(entries: Iterable[Entry]) -> dict[Status, int]:
    found = [entry.status for entry in entries]
    return {status: found.count(status) for status in WORDS}


def verdict(run: Run, entries: Sequence[Entry]) -> tuple[Status, str]:
    """The result of the run: a status, and one sentence."""
    number = counts(entries)
    total = f"{len(entries)} check{'' if len(entries) == 1 else 's'}"
    if number["fail"]:
        return "fail", f"{number['fail']} of {total} failed"
    if not number["pass"] + number["warn"]:
        return "skip", "Nothing was checked"
    if run.partial:
        return "warn", "No check failed in a part of the house"
    return "pass", f"All {total} held" if number["pass"] == len(entries) else "No check failed"


def matrix(services: Sequence[str], entries: Iterable[Entry]) -> tuple[Line, ...]:
    """Who reaches what: one row for each vantage point that tried something, in the order of the modules."""
    tried: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=_place):
        if entry.ways or entry.refused:
            tried.setdefault(entry.source, []).append(entry)
    lines = []
    for source, found in tried.items():
        ways = [way for entry in found for way in entry.ways]
        others = [way for way in ways if way.service not in services]
        refused = sum(entry.refused for entry in found) + sum(not way.reached for way in others)
        cells = tuple(_cell([way for way in ways if way.service == service]) for service in services)
        lines.append(Line(source, cells, _rest(others, refused)))
    return tuple(lines)


def apart(lines: Iterable[Line]) -> tuple[list[Line], list[tuple[list[str], Cell]]]:
    """Separates the rows: those with a result for a service, and the others, which have only a result for all other
    targets. Of these, vantage points with the same result are put together."""
    with_cells, others = [], dict[Cell, list[str]]()
    for line in lines:
        if any(cell.level != "none" for cell in line.cells):
            with_cells.append(line)
        else:
            others.setdefault(line.rest, []).append(line.source)
    return with_cells, [(sources, cell) for cell, sources in others.items()]


def _cell(ways: Sequence[Way]) -> Cell:
    if not ways:
        return Cell("not tried", "none")
    words = dict.fromkeys(_bad(way) for way in ways if way.reached != way.allowed)
    if words:
        bad = sum(way.reached != way.allowed for way in ways)
        part = f" ({bad} of {len(ways)} tries)" if bad < len(ways) else ""
        return Cell("; ".join(words) + part, "bad")
    level = "reached" if any(way.reached for way in ways) else "refused"
    return Cell(level, level)


def _bad(way: Way) -> str:
    return "reached, not allowed" if way.reached else "refused, though allowed"


def _rest(others: Sequence[Way], refused: int) -> Cell:
    bad = [f"{way.service}: {_bad(way)}" for way in others if way.reached != way.allowed]
    reached = sum(way.reached and way.allowed for way in others)
    good = ([f"{reached:,} reached"] if reached else []) + ([f"{refused:,} refused"] if refused else [])
    if bad:
        return Cell("; ".join(bad + good), "bad")
    if good:
        return Cell(", ".join(good), "reached" if reached else "refused")
    return Cell("not tried", "none")


def as_json(run: Run, entries: Sequence[Entry], about: About) -> dict[str, Any]:
    """The report as JSON. docs/verification.md describes it."""
    number = counts(entries)
    said = dataclasses.asdict(about)
    return {
        "house": run.house,
        "inventory": run.inventory,
        "hosts": {name: list(roles) for name, roles in run.hosts.items()},
        "probed": list(run.probed),
        "outside": run.outside,
        "started": run.started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "seconds": round(run.seconds, 1),
        "passed": number["pass"],
        "failed": number["fail"],
        "warnings": number["warn"],
        "skipped": number["skip"],
        "not_run": run.not_run,
        "checks": [
            {
                "id": entry.id,
                "from": entry.source,
                "to": entry.target,
                "what": entry.what,
                "expected": entry.expected,
                "observed": entry.observed,
                "status": entry.status,
                "why": entry.why,
                "remedy": entry.remedy,
                "ways": [dataclasses.asdict(way) for way in entry.ways],
                "refused": entry.refused,
            }
            for entry in entries
        ],
        "connections": said.pop("connections"),
        "commands": said.pop("commands"),
        "about": said,
    }


def as_html(run: Run, entries: Sequence[Entry], about: About) -> str:
    """The report as one HTML page that loads nothing else."""
    # Text from a host must never become markup, so everything is escaped.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    listed: dict[Status, list[Entry]] = {status: [] for status in WORDS}
    held: dict[str, dict[str, list[Entry]]] = {}
    for entry in sorted(entries, key=_place):
        listed[entry.status].append(entry)
        if entry.status == "pass":
            held.setdefault(_module(entry), {}).setdefault(entry.id.partition("[")[0], []).append(entry)
    columns: dict[str, list[str]] = {}
    for service in run.services:
        host, _, name = service.partition("/")
        columns.setdefault(host, []).append(name)
    lines, aside = apart(matrix(run.services, entries))
    level, sentence = verdict(run, entries)
    return environment.get_template("report.html.j2").render(
        run=run,
        about=about,
        level=level,
        sentence=sentence,
        number=counts(entries),
        columns=columns,
        lines=lines,
        aside=aside,
        listed={status: together(found) for status, found in listed.items()},
        held=held,
        modules=MODULES,
        words=WORDS,
        programs=sorted({name for versions in about.versions.values() for name in versions}),
        asked=list(dict.fromkeys([*run.hosts, *about.connections, *about.commands])),
        few_days=FEW_DAYS,
    )


def together(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Groups checks that were not made for the same reason, for example because one host is down. A group is shown
    once."""
    groups: dict[object, list[Entry]] = {}
    for entry in entries:
        same = (entry.status, entry.observed, entry.remedy, entry.why if entry.status == "skip" else "")
        groups.setdefault(entry if entry.source else same, []).append(entry)
    return list(groups.values())


def _module(entry: Entry) -> str:
    return entry.id.partition(".")[0]


def _place(entry: Entry) -> int:
    """The key by which checks are sorted: the order of MODULES, unknown modules last. Within a module, the order
    stays."""
    known = list(MODULES)
    return known.index(_module(entry)) if _module(entry) in known else len(known)
