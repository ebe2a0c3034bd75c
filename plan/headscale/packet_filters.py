"""Packet filters of the nodes of the VPN: as the access table wants them, and as Headscale and Tailscale list them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plan.devices.declared import Device
from plan.house.access_table import Row
from plan.house.house import House, Member, calls

#: One kind of packet that a node lets in: source address, target address, protocol number, first port, last port.
Passage = tuple[str, str, int, int, int]

PROTOCOLS = {"tcp": 6, "udp": 17}
#: A network with more addresses stays one entry; a smaller one is split into its addresses.
MOST = 256


def packet_filter(house: House, member: Member, vpn: Mapping[str, Sequence[str]]) -> frozenset[Passage]:
    """What Headscale's policy must let in at `member`. `vpn`: name of a host or device -> its addresses in the VPN."""
    return frozenset(
        passage
        for row in house.access
        if row.over == "vpn"
        for other in house.callers(row, member)
        for passage in _through(row, vpn.get(other.name, ()), vpn.get(member.name, ()))
    )


def house_filter(house: House, vpn: Mapping[str, Sequence[str]]) -> frozenset[Passage]:
    """What Headscale's policy must let in at all nodes, devices included. `vpn` as for `packet_filter`."""
    found = {passage for member in house.members for passage in packet_filter(house, member, vpn)}
    for row in house.access:
        # A device counts as a client. Row `openclaw` leads only to gateways.
        if row.over == "vpn" and row.target in ("all", "clients") and row.id != "openclaw":
            everybody: tuple[Member | Device, ...] = (*house.members, *house.devices)
            for other in (each for each in everybody if calls(row, each)):
                for device in house.devices:
                    found |= _through(row, vpn.get(other.name, ()), vpn.get(device.name, ()))
    return frozenset(found)


def _through(row: Row, sources: Sequence[str], targets: Sequence[str]) -> set[Passage]:
    return {(source, to, PROTOCOLS[row.protocol], row.port, row.port) for source in sources for to in targets}


def node_passages(filters: Any) -> frozenset[Passage]:
    """A node's packet filter (`PacketFilter` of `tailscale debug netmap`) as single passages. Raises the exceptions of
    STRANGE."""
    return _apart(
        (rule["Srcs"], [(to["Net"], to["Ports"]) for to in rule["Dsts"]], rule.get("IPProto")) for rule in filters or ()
    )


def server_passages(filters: Any) -> frozenset[Passage]:
    """The rules that a running Headscale sends to nodes (tailcfg.FilterRule, from /debug/filter) as single passages.
    Raises the exceptions of STRANGE."""
    return _apart(
        (rule["SrcIPs"], [(to["IP"], to["Ports"]) for to in rule["DstPorts"]], rule.get("IPProto"))
        for rule in filters or ()
    )


def _apart(
    rules: Iterable[tuple[Sequence[str], Sequence[tuple[str, Mapping[str, int]]], Sequence[int] | None]],
) -> frozenset[Passage]:
    return frozenset(
        (source, target, protocol, ports["First"], ports["Last"])
        for sources, targets, protocols in rules
        for network in sources
        for to, ports in targets
        for protocol in protocols or (0,)
        for source in _addresses(network)
        for target in _addresses(to)
    )


def _addresses(text: str) -> list[str]:
    """The addresses of a network, or of a range such as "100.64.0.2-100.64.0.4", in which Headscale writes addresses
    that follow each other. A network or range with more than MOST addresses, and "*", stay one text."""
    if text == "*":
        return [text]
    if "-" in text:
        first, last = map(ipaddress.ip_address, text.split("-"))
        if type(first) is not type(last) or not 0 <= int(last) - int(first) < MOST:
            return [text]
        return [str(first + number) for number in range(int(last) - int(first) + 1)]
    network = ipaddress.ip_network(text, strict=False)
    return [str(address) for address in network] if network.num_addresses <= MOST else [text]


def said(found: Iterable[Passage]) -> str:
    """Passages in words."""
    words = (
        f"{source} to {to} {'port ' + str(first) if first == last else f'ports {first}-{last}'}"
        for source, to, _, first, last in sorted(found)
    )
    # The words name no protocol, so passages for several protocols give the same words. People need them once.
    return ", ".join(dict.fromkeys(words)) or "nothing"


def difference_of(found: frozenset[Passage], wanted: frozenset[Passage]) -> str:
    """How a packet filter differs from the planned one, in words; "" when it does not."""
    return "" if found == wanted else f"missing: {said(wanted - found)}; too much: {said(found - wanted)}"
