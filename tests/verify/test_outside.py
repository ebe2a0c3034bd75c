"""From a machine that is not in the VPN: the access table's rows for the local network answer, and nothing else."""

from __future__ import annotations

from plan.checks import open_to_lan
from tests.verify.conftest import Lan
from tests.verify.ledger import Check
from tests.verify.probes.network import ALL_PORTS
from tests.verify.probing import Probing, target

FIREWALL = "run the deployment again; then nft list table inet private_ai, and ss -Hltnp, on the host"


def test_of_all_tcp_ports_only_the_table_s_answer(lan: Lan, probing: Probing, check: Check) -> None:
    # Where the controller is the vantage point, it is an administrator as well.
    admin = probing.subject.outside is None
    expected = sorted(open_to_lan(probing.house, lan.member, "tcp", admin=admin))
    seen = probing.sweep()[lan.address] or {"open": [], "reset": [], "counts": {}}
    tried = sum(seen["counts"].values())
    check(
        (seen["open"], seen["reset"], tried) == (expected, [], len(ALL_PORTS)),
        source=probing.subject.outside_name,
        target=lan.member.name,
        expected=f"of {len(ALL_PORTS):,} TCP ports of {lan.address} open: {expected}, answered with a reset: []",
        observed=f"tried {tried:,}, open: {_some(seen['open'])}, answered with a reset: {_some(seen['reset'])}",
        remedy=FIREWALL,
        answered=[f"{port}/tcp" for port in seen["open"]],
        refused=tried - len(seen["open"]),
    )


def _some(ports: list[int]) -> str:
    return str(ports) if len(ports) <= 10 else f"{ports[:10]} and {len(ports) - 10:,} more"


def test_stun_answers(coordinator_lan: Lan, probing: Probing, check: Check) -> None:
    lan, port = coordinator_lan, probing.house.port("stun")
    seen = probing.outside()["stun"][target(lan.address, port)]
    check(
        seen.startswith("mapped "),
        source=probing.subject.outside_name,
        target=lan.member.name,
        expected=f"a binding response from {lan.address} port {port}/udp",
        observed=seen,
        remedy=f"on {lan.member.name}: systemctl status headscale; then as for TCP: {FIREWALL}",
        answered=[f"{port}/udp"] if seen.startswith("mapped ") else [],
    )


def test_administrators_reach_what_is_theirs(lan: Lan, probing: Probing, check: Check) -> None:
    ports = sorted(open_to_lan(probing.house, lan.member, "tcp", admin=True))
    seen = {port: probing.controller()["connect"][target(lan.address, port)] for port in ports}
    check(
        set(seen.values()) == {"open"},
        source="controller",
        target=lan.member.name,
        expected=f"open at {lan.address}: {ports}",
        observed=seen,
        remedy="see that this computer's address is in admin_networks (group_data/all.py), and deploy",
        answered=[f"{port}/tcp" for port, outcome in seen.items() if outcome == "open"],
    )
