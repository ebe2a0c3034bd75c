"""From each service's account: the way out of the house is closed. Tried against what answers others: in a lab a
host of the internet, else a port that this computer opens for the time of the verification, and jump hosts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from plan.house.house import Member
from tests.verify.expected import target
from tests.verify.ledger import Check, Way
from tests.verify.probes.network import DNS_NAME, OPEN, RESET, SILENT
from tests.verify.probing import Probing


def outside(probing: Probing, mark: str) -> list[str]:
    """Where to try the way out of the house, of the addresses with `mark` in them.

    Outside a lab those that a person's computer reaches: what nobody reaches proves nothing. Without any the check is
    skipped.
    """
    there = [target(address, port) for address, port in probing.world() if mark in address]
    if not there:
        pytest.skip(
            "towards the hosts this computer has no such address of its own (NAT, or one family), and no jump host"
        )
    if probing.subject.lab:
        return there
    witness = probing.let_in()
    proving = [at for at in there if witness.get(at) == "open"]
    if not proving:
        pytest.skip(
            f"{', '.join(there)}, at this computer or a jump host, is reached by no computer of the group clients: "
            "a firewall lies between, or none is probed, so a refusal would prove nothing"
        )
    return proving


def against_rows(said: Mapping[str, str], own: Mapping[str, str], user: str) -> list[str]:
    """What the rows to addresses do for an account that they should not: refuse root, or let another one's packets out.

    `said`: what came of trying each target, `own`: its row's id. A target that is off, or that has nothing at the port,
    still tells that a packet went out.
    """
    wrong = ("prohibited",) if user == "root" else (OPEN, RESET, SILENT)
    return [f"{own[at]}: {at} {outcome}" for at, outcome in said.items() if outcome in wrong]


def test_closed(service_user: tuple[Member, str], probing: Probing, check: Check) -> None:
    """A service's account reaches nothing outside the house: by IPv4, IPv6, a bare address, DNS or a name.

    No telemetry, no update check, no cloud: not because a setting says so, but because no packet leaves.
    """
    member, user = service_user
    there, witness = outside(probing, ""), probing.let_in()
    seen = probing.host(member.name)["as"][user]
    if seen is None:
        seen = {"connect": {}, "dns": {}, "resolve": {}}
    # The rows to addresses let root reach these. Whether they answer is their owner's business; others are refused.
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
        expected=f"none of these is reached, while they do answer others: {', '.join(tried) or DNS_NAME}"
        + (f"; root alone gets out by the rows {', '.join(own.values())}" if own else ""),
        observed=f"reached: {reached or 'none'}; does not answer others either: {dead or 'none'}"
        + (f"; {', '.join(wrong) or 'so'}" if own else "")
        if tried
        else f"no account {user} to try it from",
        remedy=f"run the deployment again; then on {member.name}: nft list chain inet private_ai output",
        ways=[Way("internet", bool(reached), False)],
        refused=max(0, len(tried) - len(reached) - 1),
    )
