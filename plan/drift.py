"""The report of drift: how the hosts differ from what a run would deploy. For people, and as JSON for programs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import groupby, takewhile
from typing import Any

from plan.engine.difference import Change
from plan.engine.stamp import Deployed, Stamp
from plan.engine.terminal_text import plain
from plan.engine.want import File

#: How many characters of a line of a diff the report shows, and how many of them come before the difference. Most lines
#: of our files are shorter than WIDTH.
WIDTH, BEFORE = 120, 30


@dataclass(frozen=True)
class Found:
    """One thing of a component that a run would change. `diff`: lines of a unified diff, if people may see the
    content."""

    component: str
    change: Change
    diff: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostDrift:
    """A host and its differences. `stamp`: the stamp on the host. `here`: what a run from here would write into the
    stamp. `found`: all other things that a run would change."""

    host: str
    stamp: Stamp | None
    here: Deployed
    found: tuple[Found, ...]


def content_diff(change: Change, present: str | None) -> tuple[str, ...]:
    """Lines of a unified diff from the content on the host (`present`) to the wanted content. `present` is None when
    the content was too long to be read."""
    if change.shown is None:
        return ()
    if present is None:
        return ("(the content on the host is too long to be shown)",)
    wanted = change.shown.content if isinstance(change.shown, File) else change.shown.text
    old, new = present.split("\n"), wanted.split("\n")
    # Most files end with a line break. If only one of the two contents does, that is a difference.
    if not old[-1] and not new[-1]:
        old, new = old[:-1], new[:-1]
    return tuple(plain(line) for line in difflib.unified_diff(old, new, "on the host", "wanted", lineterm=""))


def report(hosts: Sequence[HostDrift]) -> Iterator[tuple[str, str]]:
    """The report's lines, each with its style: host, component, change, removed, added, place, good, or none ("")."""
    for each in hosts:
        yield "host", f"{each.host}: {plain(_stamp_words(each))}"
        for component, found in groupby(each.found, key=lambda one: one.component):
            yield "component", f"  {component}"
            for one in found:
                yield "change", f"    {plain(str(one.change))}"
                yield from ((_style(line), f"      {line}") for line in narrow(one.diff))
        if not each.found:
            stale = each.stamp is None or each.stamp.what != each.here
            yield "good", f"  {'only the stamp differs; the next run writes it anew' if stale else 'nothing differs'}"
        yield "", ""
    differing = [f"{len(each.found)} on {each.host}" for each in hosts if each.found]
    if differing:
        yield "change", f"Differences: {', '.join(differing)}. A deployment corrects them."
    else:
        yield "good", f"Nothing differs on {', '.join(each.host for each in hosts)}."


def narrow(diff: Sequence[str]) -> Iterator[str]:
    """Lines of a diff for people. Cuts long lines to WIDTH. Of a removed line and the added line that replaces it, the
    part that differs remains."""
    at = 0
    while at < len(diff):
        removed = list(takewhile(lambda line: line.startswith("-"), diff[at:]))
        added = list(takewhile(lambda line: line.startswith("+"), diff[at + len(removed) :]))
        # Without removed and added lines, this is the head of a hunk or an unchanged line.
        lines = [*removed, *added] or [diff[at]]
        alike = [_alike(old[1:], new[1:]) for old, new in zip(removed, added, strict=False)]
        starts = [*alike, *[0] * (len(removed) - len(alike)), *alike, *[0] * len(added)]
        yield from (_cut(line, start) for line, start in zip(lines, starts or [0], strict=False))
        at += len(lines)


def _alike(one: str, other: str) -> int:
    """How many characters at the beginning of two texts are the same."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _cut(line: str, start: int) -> str:
    """A line of a diff, cut to WIDTH. The character at `start` of its text remains, with BEFORE characters before
    it."""
    sign, text = line[:1], line[1:]
    if len(text) <= WIDTH:
        return line
    begin = start - BEFORE if start > WIDTH - BEFORE else 0
    end = begin + WIDTH
    return f"{sign}{'…' if begin else ''}{text[begin:end]}{'…' if end < len(text) else ''}"


def _style(line: str) -> str:
    if line.startswith(("---", "+++", "@@")):
        return "place"
    return {"-": "removed", "+": "added"}.get(line[:1], "")


def _stamp_words(each: HostDrift) -> str:
    """When a host was deployed and from which revision, settings and versions, compared with those here."""
    if each.stamp is None:
        return "no deployment has been completed here"
    then, here = each.stamp.what, each.here
    same = then.revision == here.revision
    words = [
        f"deployed {each.stamp.when.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        f"revision {then.revision}, {'the same as here' if same else f'here {here.revision}'}",
        "the same settings as here" if then.settings == here.settings else "other settings than here",
    ]
    for name in sorted({*then.programs, *here.programs}):
        old, new = then.programs.get(name, "none"), here.programs.get(name, "none")
        if old != new:
            words.append(f"{name} {old}, here {new}")
    return "; ".join(words)


def as_json(hosts: Sequence[HostDrift]) -> Mapping[str, Any]:
    """The same report as JSON, for programs."""
    return {
        "differs": any(each.found for each in hosts),
        "hosts": {
            each.host: {
                "stamp": {**vars(each.stamp.what), "when": each.stamp.when.isoformat()} if each.stamp else None,
                "here": vars(each.here),
                "changes": [
                    {
                        "component": one.component,
                        "what": one.change.what,
                        "would_be": one.change.would,
                        "why": one.change.why,
                        "diff": list(one.diff),
                    }
                    for one in each.found
                ],
            }
            for each in hosts
        },
    }
