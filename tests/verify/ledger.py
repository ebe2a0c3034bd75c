"""Records all checks of a run: what was expected, what was seen, and what to do next."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import pytest

Status = Literal["pass", "fail", "warn", "skip"]


@dataclass(frozen=True)
class Way:
    """A connection that was tried: whether it reached the service, and whether the access table allows it.

    `service`: "HOST/ID" with the id of a row of the access table, else words for the target.
    """

    service: str
    reached: bool
    allowed: bool


@dataclass(frozen=True)
class Entry:
    """One check.

    `id`: MODULE.CHECK[PARAMETERS]. `source`: the vantage point. `what`: one sentence about the check. `why`: the reason
    for the check, or why it was skipped. `refused`: how many connections were refused in addition to those in `ways`.
    """

    id: str
    source: str
    target: str
    what: str
    expected: str
    observed: str
    status: Status
    why: str
    remedy: str
    ways: tuple[Way, ...] = ()
    refused: int = 0


@dataclass
class Ledger:
    """The checks of a run, in order."""

    entries: list[Entry] = field(default_factory=list)

    def check(self, request: pytest.FixtureRequest) -> Check:
        return Check(request.node, self.entries.append)


@dataclass(frozen=True)
class Check:
    """Records a check. If the check does not hold, fails the test with what was expected, what was seen and the next
    step.

    With `warn` it is only a warning: people should know it, but it breaks no promise of the house.
    """

    item: pytest.Item
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
        ways: Iterable[Way] = (),
        refused: int = 0,
        warn: bool = False,
    ) -> None:
        __tracebackhide__ = True
        what, why = described(self.item)
        status: Status = "pass" if holds else "warn" if warn else "fail"
        entry = Entry(
            check_id(self.item.nodeid),
            source,
            target,
            what,
            expected,
            str(observed),
            status,
            why,
            remedy,
            tuple(ways),
            refused,
        )
        self.record(entry)
        if status == "fail":
            pytest.fail(
                f"{source} -> {target}\nexpected: {expected}\nobserved: {entry.observed}\nnext:     {remedy}",
                pytrace=False,
            )


def check_id(nodeid: str) -> str:
    """tests/verify/test_outside.py::test_tcp_ports[home-IPv4] as outside.tcp_ports[home-IPv4]."""
    return re.sub(r"^.*?test_(\w+)\.py::test_", r"\1.", nodeid)


def described(item: pytest.Item) -> tuple[str, str]:
    """What a check looks at, and why: the first paragraph of the test's docstring, and the rest of it."""
    text = inspect.getdoc(getattr(item, "function", None)) or ""
    what, _, why = text.partition("\n\n")
    return " ".join(what.split()), " ".join(why.split())
