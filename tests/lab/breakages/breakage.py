"""A breakage: one thing that is broken in a deployed house, and what the verification must report then. Only data and a
pure function; no host is touched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["coordinator", "gateway", "model_host", "client"]
Topology = Literal["single", "split"]

#: Topology -> role -> the host of the lab with this role.
HOSTS: Mapping[Topology, Mapping[Role, str]] = {
    "single": {"coordinator": "home", "gateway": "home", "model_host": "home", "client": "laptop"},
    "split": {"coordinator": "hub", "gateway": "gate", "model_host": "brain", "client": "laptop"},
}


@dataclass(frozen=True)
class Round:
    """In `make test`, breakages of different parts are made at the same time, and one verification must report all of
    them. No other breakage of the round may cause what one of them must cause."""

    topology: Topology
    number: int


@dataclass(frozen=True)
class Caught:
    """A check that has to fail. What the check observed has to match the regular expression `seen`."""

    check: str
    seen: str = ""


@dataclass(frozen=True)
class Repair:
    """For a breakage that a deployment cannot or should not repair: why, and what a person runs on the host before the
    next deployment."""

    why: str
    script: str


@dataclass(frozen=True)
class Breakage:
    """One thing broken on one host.

    Checks are named by patterns. In a pattern, `*` stands for any text, HOST for the host on which something is broken,
    and COORDINATOR, GATEWAY, MODEL and CLIENT for the hosts with these roles.
    """

    #: COMPONENT.WHAT.
    id: str
    #: Something is broken on the host with this role.
    at: Role
    #: One sentence for docs/breakages.md: what is wrong then.
    what: str
    #: Shell text that root runs on that host. It returns when it has taken effect.
    script: str
    #: Each of these has to fail.
    must: tuple[Caught, ...]
    #: These checks may fail too, as real consequences.
    may: tuple[str, ...] = ()
    #: Operations of the deployment that have to report a change.
    repaired_by: tuple[str, ...] = ()
    by_hand: Repair | None = None
    #: Shell text that root runs on the client after `script`. It waits until the client has heard of the change.
    heard: str = ""
    #: Shell text that root runs on that host after the deployment. It waits for what comes back by itself.
    settled: str = ""
    topologies: tuple[Topology, ...] = ("single",)
    #: `make test` also runs this breakage, in this round.
    sample: Round | None = None

    @property
    def expected(self) -> tuple[str, ...]:
        """The patterns of all checks that may fail."""
        return (*(caught.check for caught in self.must), *self.may)

    def host(self, topology: Topology) -> str:
        return HOSTS[topology][self.at]


@dataclass(frozen=True)
class Seen:
    """The result of a check, from the verification's report."""

    status: str
    observed: str

    @property
    def bad(self) -> bool:
        return self.status in ("fail", "warn")


#: The report of one verification: id of a check -> its result.
Report = Mapping[str, Seen]


def matches(pattern: str, check: str, breakage: Breakage, topology: Topology) -> bool:
    """Whether the id of a check matches a pattern of the breakage."""
    hosts = HOSTS[topology]
    names = {"HOST": hosts[breakage.at], "COORDINATOR": hosts["coordinator"], "GATEWAY": hosts["gateway"]}
    names |= {"MODEL": hosts["model_host"], "CLIENT": hosts["client"]}
    for word, name in names.items():
        pattern = re.sub(rf"\b{word}\b", name, pattern)
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), check) is not None


def judge(made: Sequence[Breakage], topology: Topology, before: Report, after: Report) -> list[str]:
    """What is wrong with a verification of a house with these breakages, in words; an empty list if it is as demanded.

    `before` is the report from before anything was broken. Checks that were bad in it do not count: only checks that
    have become worse count.
    """
    worse = {
        check: seen for check, seen in after.items() if seen.bad and (check not in before or not before[check].bad)
    }
    complaints = []
    for breakage, caught in [(each, caught) for each in made for caught in each.must]:
        named = [check for check in {**before, **after} if matches(caught.check, check, breakage, topology)]
        failed = [check for check in named if check in worse]
        if not named:
            complaints.append(f"not caught: there is no check {caught.check}")
        elif not failed:
            complaints.append(f"not caught: {caught.check} did not fail: {_said(after, named)}")
        elif not any(re.search(caught.seen, after[check].observed) for check in failed):
            complaints.append(f"wrong reason: {caught.check} should observe {caught.seen!r}: {_said(after, failed)}")
    for check in sorted({**before, **after}):
        if check not in after:
            complaints.append(f"unrelated: {check} is not in the report")
            continue
        if any(matches(pattern, check, each, topology) for each in made for pattern in each.expected):
            continue
        if check in worse:
            complaints.append(f"unrelated: {_said(after, [check])}")
        elif check in before and after[check].status == "skip" != before[check].status:
            complaints.append(f"unrelated: {check} was skipped: {after[check].observed}")
    return complaints


def not_whole(report: Report) -> list[str]:
    """What is wrong with a verification that must pass, in words."""
    if not report:
        return ["the report holds no check"]
    return [_said(report, [check]) for check, seen in sorted(report.items()) if seen.status == "fail"]


def _said(report: Report, checks: Sequence[str]) -> str:
    return "; ".join(
        f"{check} {report[check].status}: {report[check].observed[:300]}" if check in report else f"{check} is missing"
        for check in checks
    )
