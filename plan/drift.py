"""What differs between hosts and what would be deployed, for people and for programs. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import groupby
from typing import Any

from plan.difference import Change
from plan.stamp import Deployed, Stamp
from plan.terminal import plain
from plan.want import File


@dataclass(frozen=True)
class Found:
    """One thing of a component that a run would change. `diff`: lines of a unified diff of a content, if it may be
    shown."""

    component: str
    change: Change
    diff: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostDrift:
    """A host with the stamp that it carries, what a run from here would write into it, and all that a run would change
    besides."""

    host: str
    stamp: Stamp | None
    here: Deployed
    found: tuple[Found, ...]


def content_diff(change: Change, present: str | None) -> tuple[str, ...]:
    """Lines of a unified diff from what a host has to what is wanted. `present` is None for what was too long."""
    if change.shown is None:
        return ()
    if present is None:
        return ("(what the host has is too long to be shown)",)
    wanted = change.shown.content if isinstance(change.shown, File) else change.shown.text
    old, new = present.split("\n"), wanted.split("\n")
    # Both end with a line's end; where only one does, that is a difference.
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
                yield from ((_style(line), f"      {line}") for line in one.diff)
        if not each.found:
            stale = each.stamp is None or each.stamp.what != each.here
            yield "good", f"  nothing differs{' but the stamp, which the next run writes anew' if stale else ''}"
        yield "", ""
    differing = [f"{len(each.found)} on {each.host}" for each in hosts if each.found]
    if differing:
        yield "change", f"Differences: {', '.join(differing)}. A deployment puts them right."
    else:
        yield "good", f"Nothing differs on {', '.join(each.host for each in hosts)}."


def _style(line: str) -> str:
    if line.startswith(("---", "+++", "@@")):
        return "place"
    return {"-": "removed", "+": "added"}.get(line[:1], "")


def _stamp_words(each: HostDrift) -> str:
    """When a host was deployed, from what, and how that differs from what is here."""
    if each.stamp is None:
        return "no deployment has come to its end here"
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
    """The same for programs."""
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
