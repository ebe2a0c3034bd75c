"""From inside the gateway's container: Ollama answers; everything else, which does answer others, is out of reach."""

from __future__ import annotations

import pytest

from plan.house import Member
from tests.verify.ledger import Check
from tests.verify.probing import OUTSIDE_NAME, Probing, target

EGRESS = "run the deployment again; then on the gateway: nft list chain inet private_ai output (the rules for openclaw)"


def test_ollama_answers_the_container(gateway: Member, probing: Probing, check: Check) -> None:
    found = probing.container()["providers"]
    check(
        bool(found) and all(each["status"] == 200 and each["version"] for each in found),
        source="container",
        target=" ".join(member.name for member in probing.house.with_role("model_hosts")),
        expected="Ollama's version from every model server of the configuration in force",
        observed=", ".join(f"{each['url']}: {each.get('error') or each['version']}" for each in found) or "none",
        remedy="on the model host: systemctl status ollama ollama-vpn.socket; then tailscale status on both",
        answered=[f"Ollama {each['version']}" for each in found if each["version"]],
    )


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_the_container_does_not_reach(group: str, family: str, probing: Probing, check: Check) -> None:
    wanted = [
        each for each in probing.forbidden() if each.group == group and (":" in each.address) == (family == "IPv6")
    ]
    if not wanted:
        # Only a lab has an internet that nobody is bothered with.
        pytest.skip(f"nothing to try: no {family} address in the group {group!r}")
    tried = {target(each.address, each.port): each.witness for each in wanted}
    seen = {at: probing.container()["connect"][at] for at in tried}
    witnesses = {
        "outside": probing.outside()["connect"] if "outside" in tried.values() else {},
        "controller": probing.controller()["connect"] if "controller" in tried.values() else {},
    }
    # What does not answer anybody proves nothing. That something listens, the host itself has told.
    dead = [at for at, witness in tried.items() if witness != "listener" and witnesses[witness].get(at) != "open"]
    reached = [at for at, outcome in seen.items() if outcome == "open"]
    check(
        not reached and not dead,
        source="container",
        target=group,
        expected=f"none of these is reached, while they do answer others: {', '.join(tried)}",
        observed=f"reached: {reached or 'none'}; does not answer others either: {dead or 'none'}",
        remedy=EGRESS if reached else "repair what does not answer, and run again",
        answered=reached,
        refused=len(seen) - len(reached),
    )


def test_the_container_resolves_no_outside_names(gateway: Member, probing: Probing, check: Check) -> None:
    found = probing.container()["lookup"][OUTSIDE_NAME]
    check(
        not found,
        source="container",
        target="DNS",
        expected=f"no address for {OUTSIDE_NAME}",
        observed=found or "none",
        remedy=EGRESS,
        refused=1 - bool(found),
    )
