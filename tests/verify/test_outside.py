"""Checks from a machine outside the VPN: the access table's rows for the local network answer, and nothing else."""

from __future__ import annotations

import pytest

from plan.verification import open_to_lan, rows_at, service_of
from tests.verify.conftest import Lan
from tests.verify.expected import target
from tests.verify.ledger import Check, Way
from tests.verify.probes.network import ALL_PORTS
from tests.verify.probing import Probing

FIREWALL = "run the deployment again; then nft list table inet private_ai, and ss -Hltnp, on the host"


def test_tcp_ports(lan: Lan, probing: Probing, check: Check) -> None:
    """Of all TCP ports of a host, only those answer that the access table opens to the local network.

    Right rules are not enough, so the check tries each port, also over IPv6.
    """
    # If the controller is the vantage point, it is also an administrator's computer.
    admin = probing.subject.outside is None
    expected = sorted(open_to_lan(probing.house, lan.member, "tcp", admin=admin))
    seen = probing.sweep()[lan.address] or {"open": [], "reset": [], "counts": {}}
    tried = sum(seen["counts"].values())
    named = {*expected, *seen["open"], *(row.port for row in rows_at(probing.house, lan.member))}
    check(
        (seen["open"], seen["reset"], tried) == (expected, [], len(ALL_PORTS)),
        source=probing.subject.outside_name,
        target=lan.member.name,
        expected=f"of {len(ALL_PORTS):,} TCP ports of {lan.address} open: {expected}, answered with a reset: []",
        observed=f"tried {tried:,}, open: {_some(seen['open'])}, answered with a reset: {_some(seen['reset'])}",
        remedy=FIREWALL,
        ways=[
            Way(service_of(probing.house, lan.member, port), port in seen["open"], port in expected)
            for port in sorted(named)
        ],
        refused=tried - len(seen["open"]) - len(named - set(seen["open"])),
    )


def _some(ports: list[int]) -> str:
    return str(ports) if len(ports) <= 10 else f"{ports[:10]} and {len(ports) - 10:,} more"


def test_stun(coordinator_lan: Lan, probing: Probing, check: Check) -> None:
    """The coordinator answers a STUN request.

    With STUN, devices find direct paths to each other. Without it, all packets would go through the relay.
    """
    lan, port = coordinator_lan, probing.house.port("stun")
    seen = probing.outside()["stun"][target(lan.address, port)]
    check(
        seen.startswith("mapped "),
        source=probing.subject.outside_name,
        target=lan.member.name,
        expected=f"a binding response from {lan.address} port {port}/udp",
        observed=seen,
        remedy=f"on {lan.member.name}: systemctl status headscale; then as for TCP: {FIREWALL}",
        ways=[Way(f"{lan.member.name}/stun", seen.startswith("mapped "), True)],
    )


def test_services(lan: Lan, probing: Probing, check: Check) -> None:
    """The services that the local network may reach answer in their own protocol, with a certificate of the house's CA.

    An open port alone is no service, and a device that joins needs this service.
    """
    asked = probing.asked_outside(lan.address)
    if not asked:
        pytest.skip(f"the access table opens no TCP service of {lan.member.name} to the local network")
    seen = {each.item: probing.outside()["service"][each.item] for each in asked}
    check(
        all(said.startswith("ok: ") for said in seen.values()),
        source=probing.subject.outside_name,
        target=lan.member.name,
        expected=", ".join(f"{each.row.id} answers at {each.at} port {each.row.port}" for each in asked),
        observed=", ".join(seen.values()),
        remedy=f"on {lan.member.name}: systemctl status headscale; then run the deployment again",
        ways=[Way(f"{lan.member.name}/{each.row.id}", seen[each.item].startswith("ok: "), True) for each in asked],
    )


def test_admin_ports(lan: Lan, probing: Probing, check: Check) -> None:
    """This computer, an administrator's, reaches the services that the table opens to administrators.

    Without SSH nobody can repair anything.
    """
    asked = probing.asked_as_admin(lan.address)
    seen = {each.item: probing.controller()["service"][each.item] for each in asked}
    check(
        all(said.startswith("ok: ") for said in seen.values()),
        source="controller",
        target=lan.member.name,
        expected=", ".join(f"{each.row.id} answers at {each.at} port {each.row.port}" for each in asked),
        observed=", ".join(seen.values()),
        remedy="make sure that this computer's address is in admin_networks (group_data/all.py); run the deployment",
        ways=[Way(f"{lan.member.name}/{each.row.id}", seen[each.item].startswith("ok: "), True) for each in asked],
    )
