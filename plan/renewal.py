"""The names of what renews certificates on a host, without a person."""

from __future__ import annotations

from plan.house.house import Member

PROGRAM = "/usr/local/sbin/private-ai-renew"
SERVICE = "private-ai-renew.service"
TIMER = "private-ai-renew.timer"
#: The roles whose hosts have a server's certificate.
ROLES = frozenset({"coordinator", "gateway"})


def gateway_keys(member: Member) -> tuple[str, ...]:
    """The keys of a gateway's certificates. A coordinator has no successor of its certificates: it signs new ones."""
    keys = ("/etc/openclaw/tls/key.pem", "/etc/openclaw/tls/next/key.pem")
    return keys[:1] if "coordinator" in member.roles else keys
