"""Calculates what packet filters of other programs do to a packet: refuse it for certain, or pass it on.

A packet has to pass every table at its hook. A packet that is passed on to another address (DNAT) never reaches the
hook at which our rules refuse. So a run looks for both before any change. A rule that we cannot read counts as
"perhaps"; only certain results are reported.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from plan.other_programs.nft_listing import Chain, cases, chain_of, owner

Family = Literal["ip", "ip6"]


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection, as a chain at `hook` sees it.

    `interfaces`: the interfaces by which it may come in (input) or go out (output). `to`: the addresses to which it may
    be sent. Both are empty when they are not known.
    """

    hook: Literal["input", "output"]
    family: Family
    protocol: Literal["tcp", "udp"]
    port: int
    interfaces: frozenset[str]
    to: frozenset[str]


@dataclass(frozen=True)
class Passed:
    """Packets of `family` (inet: both families) to the ports `first` to `last`. They are passed on to the address `to`,
    so they do not reach the host's input chain.

    `redirected`: they go to another port of the host itself, so they do reach the input chain.
    """

    family: str
    protocol: str
    first: int
    last: int
    to: str
    owner: str
    redirected: bool

    @property
    def ports(self) -> str:
        last = f"-{self.last}" if self.last != self.first else ""
        return f"{self.first}{last}/{self.protocol}"

    def covers(self, protocol: str, port: int) -> bool:
        return protocol == self.protocol and self.first <= port <= self.last


def refusing(packet: Packet, chains: Sequence[Chain]) -> Chain | None:
    """The chain that certainly refuses a packet; None when there is none."""
    for chain in chains:
        before = ("prerouting", "input") if packet.hook == "input" else ("output",)
        if chain.hook not in before or chain.kind != "filter" or chain.family not in (packet.family, "inet"):
            continue
        found = _outcomes(chain, packet, chains)
        if "return" in found:
            found = found - {"return"} | {"drop" if chain.policy == "drop" else "accept"}
        if found == {"drop"}:
            return chain
    return None


def _outcomes(chain: Chain, packet: Packet, chains: Sequence[Chain]) -> set[str]:
    found: set[str] = set()
    for rule in chain.rules:
        for text, verdict in cases(rule):
            certain = _matches(text, packet)
            if certain is False or not verdict:
                continue
            ways = _follow(verdict, chain, packet, chains)
            if certain and "next" not in ways:
                return found | ways
            found |= ways - {"next"}
    return found | {"return"}


def _follow(verdict: str, chain: Chain, packet: Packet, chains: Sequence[Chain]) -> set[str]:
    """What can happen to the packet after a verdict. "next": it goes on to the next rule."""
    word, _, name = verdict.partition(" ")
    if word in ("accept", "return"):
        return {word}
    if word in ("drop", "reject"):
        return {"drop"}
    target = chain_of(chains, chain, name)
    if word in ("jump", "goto") and target is not None:
        ways = _outcomes(target, packet, chains)
        return ways if word == "goto" else {"next" if way == "return" else way for way in ways}
    # A queue, a named verdict map, or a verdict that we do not know: anything may happen.
    return {"accept", "drop", "next"}


_VALUE = r"(?P<not>!= )?(?P<value>\{[^}]*\}|\"[^\"]*\"|\S+)"
_MATCH = re.compile(
    r"(?P<key>meta l4proto|meta nfproto|ip protocol|ip6 nexthdr|ct state|ct status|[io]ifname|[io]if|fib daddr type"
    rf"|(?:tcp|udp|th) dport|ip6? daddr|icmp(?:v6)? (?:type|code)|rt type|igmp type) {_VALUE}"
)


def _matches(text: str, packet: Packet) -> bool | None:
    """Whether a rule's matches apply to a packet; None when we cannot tell."""
    answers: list[bool | None] = []
    for found in _MATCH.finditer(text):
        if not _applies(found["key"], packet):
            return False
        answer = _one(found["key"], found["value"], packet)
        answers.append(answer if answer is None or not found["not"] else not answer)
    if False in answers:
        return False
    return None if None in answers or _MATCH.sub("", text).strip() else True


def _applies(key: str, packet: Packet) -> bool:
    """Whether a packet has the field that a match compares. Without the field the rule does not apply."""
    first = key.split()[0]
    if first in ("ip", "ip6"):
        return first == packet.family
    if key.endswith("dport"):
        return first in (packet.protocol, "th")
    if key in ("iif", "iifname", "oif", "oifname"):
        return key.startswith("i") is (packet.hook == "input")
    return not first.startswith(("icmp", "igmp", "rt"))


def _one(key: str, value: str, packet: Packet) -> bool | None:
    values = [each.strip().strip('"') for each in value.strip("{} ").split(",")]
    if value.startswith("@"):
        return None
    if key in ("meta l4proto", "ip protocol", "ip6 nexthdr"):
        return packet.protocol in values or {"tcp": "6", "udp": "17"}[packet.protocol] in values
    if key == "meta nfproto":
        return {"ip": "ipv4", "ip6": "ipv6"}[packet.family] in values
    if key == "ct state":
        return "new" in values
    if key == "ct status":
        # A status such as "dnat" or "assured": the first packet of a connection has none of them.
        return False
    if key.endswith("dport"):
        return _within(values, packet.port)
    if key == "fib daddr type":
        return ("local" if packet.hook == "input" else "unicast") in values
    if key.endswith("daddr"):
        return _addresses(values, packet.to)
    return _interface(values, packet)


def _within(values: Iterable[str], port: int) -> bool | None:
    for value in values:
        first, _, last = value.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            return None
        if int(first) <= port <= int(last or first):
            return True
    return False


def _interface(values: Iterable[str], packet: Packet) -> bool | None:
    if not packet.interfaces:
        return False if set(values) == {"lo"} else None
    hit = {name for name in packet.interfaces for value in values if name == value or _starts(name, value)}
    return True if hit == packet.interfaces else None if hit else False


def _starts(name: str, pattern: str) -> bool:
    return pattern.endswith("*") and name.startswith(pattern[:-1])


def _addresses(values: Iterable[str], to: frozenset[str]) -> bool | None:
    try:
        networks = [ipaddress.ip_network(value) for value in values]
    except ValueError:
        return None
    hit = {address for address in to for network in networks if ipaddress.ip_address(address) in network}
    return True if to and hit == to else None if hit or not to else False


#: Matches for loopback. Only the host itself sends there, so such rules do not concern other machines.
_FROM_HERE = re.compile(r'ip6? daddr (?:127\.|::1\b)|iifname "lo"')
_PORTS = re.compile(r"(tcp|udp|th) dport(?: map)? (\{[^}]*\}|\S+)")


def passed_on(chains: Sequence[Chain]) -> tuple[Passed, ...]:
    """Packets that go to another address before they reach the host's own programs: published ports of containers."""
    begun = (chain for chain in chains if chain.hook == "prerouting" and chain.kind == "nat")
    return tuple(dict.fromkeys(found for chain in begun for found in _passed_by(chain, "", chains)))


def _passed_by(chain: Chain, path: str, chains: Sequence[Chain]) -> Iterator[Passed]:
    for rule in chain.rules:
        for text, verdict in cases(rule):
            way, (word, _, rest) = f"{path} {text}", verdict.partition(" ")
            target = chain_of(chains, chain, rest) if word in ("jump", "goto") else None
            if target is not None:
                yield from _passed_by(target, way, chains)
            elif word in ("dnat", "redirect") and not _FROM_HERE.search(way):
                to = re.search(r"\bto (\S+)", rest)
                where = to[1] if to and "map" not in rest else "another address"
                for protocol, first, last in _ports(f"{way} {rest}"):
                    yield Passed(chain.family, protocol, first, last, where, owner(chain, chains), word == "redirect")


def _ports(way: str) -> Iterator[tuple[str, int, int]]:
    """The ports that the last port match on the way to a verdict names; all ports when there is no such match."""
    found = _PORTS.findall(way)
    named = re.findall(r"(?:meta l4proto|ip protocol) (tcp|udp|6|17)\b", way)
    protocols = [{"6": "tcp", "17": "udp"}.get(name, name) for name in named]
    if not found:
        yield from ((protocol, 1, 65535) for protocol in protocols or ("tcp", "udp"))
        return
    protocol, value = found[-1]
    if protocol == "th":
        protocol = protocols[-1] if protocols else "tcp"
    for each in value.strip("{} ").split(","):
        first, _, last = each.partition(" : ")[0].strip().partition("-")
        if first.isdigit():
            yield protocol, int(first), int(last) if last.isdigit() else int(first)
