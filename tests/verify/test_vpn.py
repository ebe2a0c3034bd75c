"""From a client, over the VPN: what the table grants it answers, by name and by address, and nothing else does."""

from __future__ import annotations

from plan.house import Member
from tests.verify.ledger import Check
from tests.verify.probing import Probing

Pair = tuple[Member, Member]
POLICY = "on the coordinator: headscale policy get; on the target: nft list table inet private_ai; then deploy"


def test_granted_ports_answer(granted_pair: Pair, probing: Probing, check: Check) -> None:
    client, other = granted_pair
    granted, _ = probing.over_vpn(client, other)
    seen = {at: probing.client(client.name)["connect"][at] for at in granted}
    check(
        set(seen.values()) == {"open"},
        source=f"{client.name} (VPN)",
        target=other.name,
        expected="open, by name and by address: " + ", ".join(granted),
        observed=seen,
        remedy=f"on {client.name}: tailscale status, resolvectl or /etc/resolv.conf; {POLICY}",
        answered=sorted({f"{granted[at]}/tcp" for at, outcome in seen.items() if outcome == "open"}),
    )


def test_ports_not_granted_do_not_answer(pair: Pair, probing: Probing, check: Check) -> None:
    client, other = pair
    _, closed = probing.over_vpn(client, other)
    seen = {at: probing.client(client.name)["connect"][at] for at in closed}
    reached = [at for at, outcome in seen.items() if outcome == "open"]
    check(
        bool(seen) and not reached,
        source=f"{client.name} (VPN)",
        target=other.name,
        expected="out of reach: " + (", ".join(closed) or "at least one port at its addresses in the VPN"),
        observed=f"reached: {reached or 'none'} of {len(seen)} tried",
        remedy=POLICY,
        answered=reached,
        refused=len(seen) - len(reached),
    )


def test_names_of_the_vpn(client: Member, probing: Probing, check: Check) -> None:
    gateway = probing.house.gateway
    name = probing.house.vpn_name(gateway)
    wanted, seen = sorted(probing.state(gateway.name).vpn), probing.client(client.name)["resolve"][name]
    check(
        bool(seen) and set(seen) <= set(wanted),
        source=f"{client.name} (VPN)",
        target="MagicDNS",
        expected=f"{name} is {' and '.join(wanted) or 'an address in the VPN'}",
        observed=seen or "no such name",
        remedy=f"on {client.name}: tailscale dns status; tailscale set --accept-dns=true",
        answered=["name"] if seen else [],
    )
