"""Checks that no upgrade is left half done."""

from __future__ import annotations

from plan.house.house import Member
from tests.verify.ledger import Check
from tests.verify.probing import Probing

#: The ends of an upgrade after which nothing is left to do.
GOOD = ("done", "back")


def test_ended(member: Member, probing: Probing, check: Check) -> None:
    """Each upgrade has ended: the new version is there, or the old one is back and does what it did."""
    notes = probing.state(member.name).profile.upgrades
    bad = [f"{note.program} {note.old} -> {note.new}: {note.phase}" for note in notes if note.phase not in GOOD]
    check(
        not bad,
        source=member.name,
        target="itself",
        expected="no upgrade that is cut off, and none whose old version does not do what it did",
        observed=", ".join(bad) or f"{len(notes)} upgrades have ended well",
        remedy="run the deployment again; if it says that an upgrade is stuck, see docs/upgrade.md#stuck",
    )
