"""The names of what renews certificates on a host, without a person."""

from __future__ import annotations

from collections.abc import Sequence

from plan.house.house import Member

PROGRAM = "/usr/local/sbin/private-ai-renew"
SERVICE = "private-ai-renew.service"
TIMER = "private-ai-renew.timer"
#: The roles whose hosts have a server's certificate.
ROLES = frozenset({"coordinator", "gateway"})
#: Stage of the house's way to a new authority (facts/ca.py: OtherAuthority) -> what the next step does, and what comes
#: then.
STEPS = {
    "": "Step 1 of 3: a new authority is made. All hosts of this run trust it beside the old one, which still signs. "
    "Next: bring the new one to every device, then run this again (docs/rotation.md)",
    "new": "Step 2 of 3: the new authority signs, and the servers of this run get new certificates. Hosts still trust "
    "both. Next: run this again",
    "switching": "The rest of step 2 of 3: the new authority signs, and the servers of this run get new certificates. "
    "Next: run this again",
    "old": "Step 3 of 3: the hosts of this run forget the old authority. Next: remove it from every device by hand",
}


def gateway_keys(member: Member) -> tuple[str, ...]:
    """The keys of a gateway's certificates. A coordinator has no successor of its certificates: it signs new ones."""
    keys = ("/etc/openclaw/tls/key.pem", "/etc/openclaw/tls/next/key.pem")
    return keys[:1] if "coordinator" in member.roles else keys


def behind_told(stage: str, behind: Sequence[str]) -> str:
    """Who is not known to have what the next step needs, in words; "" for nobody."""
    if not behind:
        return ""
    what = "have the new authority" if stage == "new" else "be ready to lose the old authority"
    each = "".join(f"\n      {line}" for line in behind)
    return (
        f"{what}:{each}\n    Next: bring it to them, then run this again; add --data "
        "missing=accepted to go on without them"
    )
