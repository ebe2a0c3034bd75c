"""Compares packet filters of other programs with the access table: which packets they would refuse, and which they pass
on to containers so that our rules do not see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from plan.base.profile import Profile
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line
from plan.firewall.rules import VPN_INTERFACE
from plan.house.access_table import SERVERS, Row
from plan.house.house import House, Member, leads_to, row_for
from plan.other_programs.nft_listing import Chain, owner
from plan.other_programs.packet_fate import Family, Packet, Passed, passed_on, refusing
from plan.verification import OWNERS


def refusals(house: House, member: Member, profile: Profile) -> Iterator[SettingError]:
    """A problem for each firewall that certainly refuses packets of the house, with the commands that open it."""
    chains, published = profile.beside.chains, passed_on(profile.beside.chains)
    refused: dict[str, dict[str, str]] = {}
    for row, packet in _packets(house, member, profile):
        # A packet that is passed on does not reach this chain. Docker passes IPv4 on; for IPv6 its proxy listens.
        past = row.over == "lan" and any(
            each.covers(row.protocol, row.port) and each.family in (packet.family, "inet") for each in published
        )
        chain = None if past and packet.hook == "input" else refusing(packet, chains)
        if chain is not None:
            whose = owner(chain, chains)
            refused.setdefault(whose, {})[_way(row, packet)] = _command(whose, packet, chain)
    for whose, commands in refused.items():
        then = ["firewall-cmd --reload"] if whose == "firewalld" else []
        yield SettingError(
            f"host {member.name}: {whose}",
            f"refusing {', '.join(commands)}",
            "a firewall that lets the ports of the access table through: a packet has to pass that firewall as well "
            "as the house's",
            f"on the host: {'; '.join([*dict.fromkeys(commands.values()), *then])}",
        )


def passed(house: House, member: Member, profile: Profile) -> tuple[list[SettingError], list[str]]:
    """Problems and warnings about ports whose packets are passed on to containers before the house's firewall sees
    them.

    A port that a row of the access table opens to the whole local network may be passed on. Any other port is a problem
    before the host's first firewall, and a warning later, so that a container does not stop a run that repairs the
    house.
    """
    problems, warnings = [], []
    for each in passed_on(profile.beside.chains):
        rows = [
            row
            for row in house.access
            if leads_to(row, member) and row.over == "lan" and each.covers(row.protocol, row.port)
        ]
        ours = [row for row in rows if row.id in OWNERS]
        where = f"passed on to {each.to} by {each.owner}"
        if ours:
            why = "; ".join(f"{row.port}/{row.protocol}: {row.why}" for row in ours)
            problems.append(
                SettingError(
                    f"host {member.name}: port {each.ports}",
                    where,
                    f"free for the house ({why})",
                    "publish that container's port under another number",
                )
            )
        elif _declared(each, rows):
            continue
        elif profile.beside.fenced:
            warnings.append(
                f"host {member.name}: port {each.ports} is {where}, past the house's firewall, and no row of the "
                "access table says so: the verification will find it open. Add a row, or publish it on 127.0.0.1."
            )
        else:
            problems.append(
                SettingError(
                    f"host {member.name}: port {each.ports}",
                    f"{where}, past the house's firewall",
                    "a port of the access table, or one that is published on 127.0.0.1 alone",
                    # A row has one port, so there is no row for a range of ports.
                    f"{row_for(member, each.ports)}, or publish it on 127.0.0.1"
                    if each.first == each.last
                    else "publish them on 127.0.0.1, or one by one with a row for each, see docs/access-table.md",
                )
            )
    return problems, warnings


def _declared(each: Passed, rows: list[Row]) -> bool:
    """Whether this is no problem: a row opens the port to the whole local network, or the packet goes to another port
    of the host, where the house's firewall does see it. No firewall of the host can keep a published port from a part
    of the network, so a row from `admin` is not enough."""
    return each.redirected or (each.first == each.last and any(row.source == "lan" for row in rows))


def _packets(house: House, member: Member, profile: Profile) -> Iterator[tuple[Row, Packet]]:
    """The first packets of the connections that the access table lets into a host, and of those that the host
    begins."""
    others = [each for each in house.members if each != member]
    for row in house.access:
        vpn = row.over == "vpn"
        alone = vpn and row.source in SERVERS and house.with_role(row.source) == (member,)
        if leads_to(row, member) and not alone:
            yield from _each_family(row, "input", member, profile, member.addresses)
        if row.leads_out and row.source in member.roles:
            yield from _each_family(row, "output", member, profile, (row.target,))
        served_by = [each for each in others if (house.lets_in(row, member, each) if vpn else leads_to(row, each))]
        if served_by and (vpn or row.id in ("headscale", "stun", "wireguard")):
            to = tuple(address for each in served_by for address in each.addresses)
            yield from _each_family(row, "output", member, profile, to)


def _each_family(
    row: Row, hook: Literal["input", "output"], member: Member, profile: Profile, to: tuple[str, ...]
) -> Iterator[tuple[Row, Packet]]:
    names = frozenset(name for name, net in profile.addresses if net.partition("/")[0] in member.addresses)
    families: tuple[tuple[Family, str], ...] = (("ip", "."), ("ip6", ":"))
    for family, mark in families:
        there = frozenset(address for address in to if mark in address)
        if row.over == "vpn":
            vpn = frozenset({VPN_INTERFACE})
            yield row, Packet(hook, family, row.protocol, row.port, vpn, frozenset())
        elif there and any(mark in address for address in member.addresses):
            yield row, Packet(hook, family, row.protocol, row.port, names, there)


def _way(row: Row, packet: Packet) -> str:
    inside = f" over {VPN_INTERFACE}" if row.over == "vpn" else ""
    out = " on its way out" if packet.hook == "output" else ""
    return f"{row.port}/{row.protocol}{inside}{out} ({row.id})"


def _command(whose: str, packet: Packet, chain: Chain) -> str:
    """The command that opens a port in another firewall, also after a restart."""
    port = f"{packet.port}/{packet.protocol}"
    vpn, out = VPN_INTERFACE in packet.interfaces, packet.hook == "output"
    if whose == "ufw" and vpn:
        side = "out" if out else "in"
        return f"ufw allow {side} on {VPN_INTERFACE} to any port {packet.port} proto {packet.protocol}"
    if whose == "ufw":
        return f"ufw allow {'out ' if out else ''}{port}"
    if whose == "firewalld" and not out:
        return f"firewall-cmd --permanent --add-port={port}"
    interface = f"{'o' if out else 'i'}ifname {VPN_INTERFACE} " if vpn else ""
    rule = f"{interface}{packet.protocol} dport {packet.port} accept"
    return f"add '{rule}' to chain {line(chain.name)} of {chain.full_table}"
