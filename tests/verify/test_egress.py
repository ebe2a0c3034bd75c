"""From each service's account: the way out of the house is closed. Tried against a host that answers others."""

from __future__ import annotations

import pytest

from plan.house import Member
from tests.verify.ledger import Check, Way
from tests.verify.probes.network import DNS_NAME
from tests.verify.probing import Probing


def test_closed(service_user: tuple[Member, str], probing: Probing, check: Check) -> None:
    """A service's account reaches nothing outside the house: by IPv4, IPv6, a bare address, DNS or a name.

    No telemetry, no update check, no cloud: not because a setting says so, but because no packet leaves.
    """
    member, user = service_user
    if not probing.subject.internet:
        pytest.skip("only a lab has an internet that nobody is bothered with")
    seen = probing.host(member.name)["as"][user]
    witness = probing.outside()
    if seen is None:
        seen = {"connect": {}, "dns": {}, "resolve": {}}
    reached = [at for at, outcome in seen["connect"].items() if outcome == "open"]
    reached += [f"{at} 53/udp" for at, outcome in seen["dns"].items() if outcome == "answered"]
    reached += [f"{name} is {found}" for name, found in seen["resolve"].items() if found]
    dead = [at for at in seen["connect"] if witness["connect"].get(at) != "open"]
    dead += [at for at in seen["dns"] if witness["dns"].get(at) != "answered"]
    tried = [*seen["connect"], *(f"{at} 53/udp" for at in seen["dns"]), *seen["resolve"]]
    check(
        bool(tried) and not reached and not dead,
        source=f"{member.name} as {user}",
        target="internet",
        expected=f"none of these is reached, while they do answer others: {', '.join(tried) or DNS_NAME}",
        observed=f"reached: {reached or 'none'}; does not answer others either: {dead or 'none'}"
        if tried
        else f"no account {user} to try it from",
        remedy=f"run the deployment again; then on {member.name}: nft list chain inet private_ai output",
        ways=[Way("internet", bool(reached), False)],
        refused=max(0, len(tried) - len(reached) - 1),
    )
