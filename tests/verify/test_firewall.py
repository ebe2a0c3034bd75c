"""Checks that the kernel has exactly the planned firewall rules."""

from __future__ import annotations

from plan.house.house import Member
from tests.verify.ledger import Check
from tests.verify.printed import rules
from tests.verify.probing import Probing


def test_rules(member: Member, probing: Probing, check: Check) -> None:
    """The rules in force are exactly those that follow from the access table.

    The same kernel prints both for the comparison (nft -j): the rules in force, and the planned ones.
    """
    section = probing.state(member.name)["firewall"]
    found, planned = rules(section.json()), probing.planned(member.name)
    lost = [each for each in planned if each not in found]
    added = [each for each in found if each not in planned]
    check(
        bool(planned) and found == planned,
        source=member.name,
        target="itself",
        expected=f"table inet private_ai with {len(planned)} objects, those of the plan in their order",
        observed="no such table"
        if not found
        else f"{len(found)} objects; missing: {_few(lost)}; not planned: {_few(added)}"
        + ("" if lost or added or found == planned else "; in another order"),
        remedy=f"run the deployment again; on {member.name}: systemctl status private-ai-firewall",
    )


def _few(objects: list[str]) -> str:
    return "; ".join(objects[:3]) + (f" and {len(objects) - 3} more" if len(objects) > 3 else "") or "none"
