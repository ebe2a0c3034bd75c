"""Checks from each node of the VPN: services that the table allows answer, by name and by address, and no others."""

from __future__ import annotations

import ipaddress

from plan.house.house import Member
from plan.verification import service_of
from tests.verify.ledger import Check, Way
from tests.verify.probing import Probing

Pair = tuple[Member, Member]
POLICY = "on the coordinator: headscale policy get; on the target: nft list table inet private_ai; then deploy"


def test_granted(granted_pair: Pair, probing: Probing, check: Check) -> None:
    """Services that the table allows to a node over the VPN answer in their protocol, by address and for clients by
    name."""
    source, other = granted_pair
    asked = probing.granted(source, other)
    seen = {each.item: probing.heard(source, each) for each in asked}
    check(
        bool(asked) and all(said.startswith("ok: ") for said in seen.values()),
        source=f"{source.name} (VPN)",
        target=other.name,
        expected=", ".join(f"{each.row.id} answers at {each.at} port {each.row.port}" for each in asked),
        observed=", ".join(f"{each.at}: {seen[each.item]}" for each in asked) or f"{other.name} is not in the VPN",
        remedy=f"on {source.name}: tailscale status, resolvectl or /etc/resolv.conf; {POLICY}",
        ways=[Way(f"{other.name}/{each.row.id}", seen[each.item].startswith("ok: "), True) for each in asked],
    )


def test_closed(pair: Pair, probing: Probing, check: Check) -> None:
    """Over the VPN a node does not reach ports that the table does not allow: each listening port of each other host.

    The check makes real connections, because `tailscale ping` does not depend on the policy.
    """
    source, other = pair
    closed = probing.closed(source, other)
    seen = {at: probing.host(source.name)["connect"][at] for at in closed}
    reached = [at for at, outcome in seen.items() if outcome == "open"]
    check(
        bool(seen) and not reached,
        source=f"{source.name} (VPN)",
        target=other.name,
        expected="cannot be reached: " + (", ".join(closed) or "at least one port at its addresses in the VPN"),
        observed=f"reached: {reached or 'none'} of {len(seen)} tried",
        remedy=POLICY,
        ways=[Way(service_of(probing.house, other, port), at in reached, False) for at, port in closed.items()],
    )


def test_names(client: Member, probing: Probing, check: Check) -> None:
    """A client finds its gateway by the gateway's name, through MagicDNS."""
    gateway = probing.house.gateway_of(client.user)
    name = probing.house.vpn_name(gateway)
    wanted, seen = sorted(probing.state(gateway.name).vpn), probing.host(client.name)["resolve"][name]
    check(
        bool(seen) and set(seen) <= set(wanted),
        source=f"{client.name} (VPN)",
        target="MagicDNS",
        expected=f"{name} is {' and '.join(wanted) or 'an address in the VPN'}",
        observed=seen or "no such name",
        remedy=f"on {client.name}: tailscale status, /etc/resolv.conf; 'Names of the VPN' in docs/troubleshooting.md",
    )


def test_wireguard(granted_pair: Pair, probing: Probing, check: Check) -> None:
    """Between nodes that may connect, WireGuard's packets go directly, to the port in the table.

    It is only a warning if the two nodes are not on one network: then the house's relay passes the encrypted packets
    on.
    """
    source, other = granted_pair
    port = probing.house.port("wireguard")
    direct = {f"[{at}]:{port}" if ":" in at else f"{at}:{port}" for at in other.addresses}
    vpn = probing.state(other.name).vpn
    seen = probing.host(source.name)["ping"].get(vpn[0], "not tried") if vpn else f"{other.name} is not in the VPN"
    networks = [ipaddress.ip_interface(address).network for _, address in probing.state(source.name).profile.addresses]
    near = any(ipaddress.ip_address(at) in network for at in other.addresses for network in networks)
    check(
        seen in direct,
        source=f"{source.name} (VPN)",
        target=other.name,
        expected=f"a direct path, to {' or '.join(sorted(direct))}",
        observed=seen,
        remedy=f"on {other.name}: ss -Hlunp, nft list chain inet private_ai input; tailscale netcheck on both",
        warn=seen.startswith("relay") and not near,
        ways=[Way(f"{other.name}/wireguard", seen in direct, True)],
    )
