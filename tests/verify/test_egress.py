"""From each service's account: the way out of the house is closed. Tried against what answers others: in a lab a
host of the internet, else a port that this computer opens for the time of the verification."""

from __future__ import annotations

import pytest

from plan.house import Member
from tests.verify.ledger import Check, Way
from tests.verify.probes.network import DNS_NAME
from tests.verify.probing import Probing, target


def reachable(probing: Probing, mark: str) -> dict[str, str]:
    """What each address outside the house, of those with `mark` in it, answers where the way out is open.

    Skips the check where there is none, or, outside a lab, where nobody is let in: what nobody reaches proves nothing.
    """
    there = [target(address, port) for address, port in probing.world() if mark in address]
    if not there:
        pytest.skip("this computer has no such address of its own towards the hosts (NAT, or one family alone)")
    witness = probing.let_in()
    if not probing.subject.lab and any(witness.get(at) != "open" for at in there):
        pytest.skip(
            f"{', '.join(there)}, opened at this computer, is reached by no computer of the group clients: "
            "a firewall lies between, or none is probed, so a refusal would prove nothing"
        )
    return witness


def test_closed(service_user: tuple[Member, str], probing: Probing, check: Check) -> None:
    """A service's account reaches nothing outside the house: by IPv4, IPv6, a bare address, DNS or a name.

    No telemetry, no update check, no cloud: not because a setting says so, but because no packet leaves.
    """
    member, user = service_user
    witness = reachable(probing, "")
    seen = probing.host(member.name)["as"][user]
    if seen is None:
        seen = {"connect": {}, "dns": {}, "resolve": {}}
    # The rows to addresses let root reach these. Whether they answer is their owner's business; others are refused.
    own = probing.ways_out(member)
    said = {at: outcome for at, outcome in seen["connect"].items() if at in own}
    wrong = [f"{own[at]}: {at} {o}" for at, o in said.items() if o == ("prohibited" if user == "root" else "open")]
    seen = {**seen, "connect": {at: outcome for at, outcome in seen["connect"].items() if at not in own}}
    reached = [at for at, outcome in seen["connect"].items() if outcome == "open"]
    reached += [f"{at} 53/udp" for at, outcome in seen["dns"].items() if outcome == "answered"]
    reached += [f"{name} is {found}" for name, found in seen["resolve"].items() if found]
    dead = [at for at in seen["connect"] if witness.get(at) != "open"]
    dead += [at for at in seen["dns"] if probing.outside()["dns"].get(at) != "answered"]
    tried = [*seen["connect"], *(f"{at} 53/udp" for at in seen["dns"]), *seen["resolve"]]
    check(
        bool(tried) and not reached and not dead and not wrong,
        source=f"{member.name} as {user}",
        target="internet" if probing.subject.lab else "this computer",
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
