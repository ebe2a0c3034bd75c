"""A restore has ended: what a backup brought back and nobody wants is gone again."""

from __future__ import annotations

from plan.backup.restoring import parse_restored
from plan.house.house import Member
from tests.verify.ledger import Check
from tests.verify.probing import Probing


def test_ended(member: Member, probing: Probing, check: Check) -> None:
    """No restore waits for its end: removed nodes and browsers that a backup brought back are gone again."""
    note = parse_restored(probing.state(member.name).profile.restored)
    what = {"deploy": "a restore waits for a deployment", "files": "a restore was cut off"}
    check(
        note is None,
        source=member.name,
        target="itself",
        expected="no restore that waits for its end",
        observed=what[note.phase] if note else "so",
        remedy="run the restore again, then the deployment" if note and note.phase == "files" else "run the deployment",
    )
