"""Checks from each service's account: it cannot connect to anything outside the house. The targets answer others: in a
lab a host of the lab's internet, else a port that this computer opens during the verification, and jump hosts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from plan.house.house import Member
from tests.verify.expected import target
from tests.verify.ledger import Check, Way
from tests.verify.probes.network import DNS_NAME, OPEN, PROHIBITED, RESET, SILENT, UNREACHABLE
from tests.verify.probing import Probing


def outside(probing: Probing, mark: str) -> list[str]:
    """The targets outside the house whose address has `mark` in it.

    Outside a lab only those that a client can reach, because a target that nobody can reach proves nothing. Without
    such a target the check is skipped.
    """
    there = [target(address, port) for address, port in probing.world() if mark in address]
    if not there:
        pytest.skip(
            "no target outside the house: the hosts see this computer at no such address that it has itself (because "
            "of NAT, or of one address family), and there is no jump host"
        )
    if probing.subject.lab:
        return there
    witness = probing.let_in()
    proving = [at for at in there if witness.get(at) == "open"]
    if not proving:
        pytest.skip(
            f"no computer of the group clients reaches {', '.join(there)}, at this computer or a jump host: a "
            "firewall is between them, or no client is probed. So a refusal would prove nothing"
        )
    return proving


def against_rows(said: Mapping[str, str], own: Mapping[str, str], user: str) -> list[str]:
    """Errors in the effect of rows to addresses: root is refused, or another account's packets go out.

    `said`: target -> result. `own`: target -> id of its row. Also "silent", "unreachable" and "reset" show that the
    rules let a packet out: the target is off, or nothing listens on its port.
    """
    wrong = (PROHIBITED,) if user == "root" else (OPEN, RESET, SILENT, UNREACHABLE)
    return [f"{own[at]}: {at} {outcome}" for at, outcome in said.items() if outcome in wrong]


def test_closed(service_user: tuple[Member, str], probing: Probing, check: Check) -> None:
    """A service's account reaches nothing outside the house: not by IPv4, IPv6, an address, DNS or a name.

    So there is no telemetry, update check or cloud, whatever the programs' settings say: no packet goes out.
    """
    member, user = service_user
    there, witness = outside(probing, ""), probing.let_in()
    seen = probing.host(member.name)["as"][user]
    if seen is None:
        seen = {"connect": {}, "dns": {}, "resolve": {}}
    # Rows to addresses let root reach these targets. They need not answer. All other targets must be refused.
    own = probing.ways_out(member)
    said = {at: outcome for at, outcome in seen["connect"].items() if at in own}
    wrong = against_rows(said, own, user)
    connected = {at: outcome for at, outcome in seen["connect"].items() if at in there and at not in own}
    reached = [at for at, outcome in connected.items() if outcome == "open"]
    reached += [f"{at} 53/udp" for at, outcome in seen["dns"].items() if outcome == "answered"]
    reached += [f"{name} is {found}" for name, found in seen["resolve"].items() if found]
    dead = [at for at in connected if witness.get(at) != "open"]
    dead += [at for at in seen["dns"] if probing.outside()["dns"].get(at) != "answered"]
    tried = [*connected, *(f"{at} 53/udp" for at in seen["dns"]), *seen["resolve"]]
    check(
        bool(tried) and not reached and not dead and not wrong,
        source=f"{member.name} as {user}",
        target="internet" if probing.subject.lab else "outside",
        expected=f"none of these can be reached, although they answer others: {', '.join(tried) or DNS_NAME}"
        + (f"; only root may connect by the rows {', '.join(own.values())}" if own else ""),
        observed=f"reached: {reached or 'none'}; these answer nobody: {dead or 'none'}"
        + (f"; rows: {', '.join(wrong) or 'as expected'}" if own else "")
        if tried
        else f"no account {user} to try it from",
        remedy=f"run the deployment again; then on {member.name}: nft list chain inet private_ai output",
        ways=[Way("internet", bool(reached), False)],
        refused=max(0, len(tried) - len(reached) - 1),
    )
