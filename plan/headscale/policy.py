"""Makes the Headscale policy from the access table (source: Headscale 0.29 policy reference)."""

from __future__ import annotations

from plan.house.access_table import ROLES, SERVERS, Row
from plan.house.house import House, Member, tag


def policy(house: House) -> dict[str, object]:
    """The policy as a JSON object. It always has `grants`, because a policy without it allows everything."""
    grants = [grant for row in house.access if row.over == "vpn" for grant in _grants(house, row)]
    return {
        "groups": {"group:clients": [f"{user}@" for user in house.users]},
        "tagOwners": {name: [] for role in ROLES for name in _nodes(house, role) if name.startswith("tag:")},
        "grants": grants,
        # Without this, clients look for captive portals at hosts of the company Tailscale.
        "nodeAttrs": [{"target": ["*"], "attr": ["disable-captive-portal-detection"]}],
    }


def _grants(house: House, row: Row) -> list[dict[str, list[str]]]:
    # The table names a person as Headscale does, so that name needs no change here.
    sources = _nodes(house, row.source) if row.source in ROLES else [row.source]
    roles = ROLES if row.target == "all" else (row.target,)
    targets = [target for role in roles for target in _nodes(house, role)]
    grants = [(sources, targets)]
    if row.id == "openclaw" and row.source not in SERVERS:
        grants = [(_people(row, gateway), [tag("gateway", gateway.name)]) for gateway in house.gateways]
    ports = [f"{row.protocol}:{row.port}"]
    return [{"src": source, "dst": target, "ip": ports} for source, target in grants if source]


def _nodes(house: House, role: str) -> list[str]:
    """The names in the policy for the nodes of a group of the inventory."""
    if role == "clients":
        return ["group:clients"]
    return list(dict.fromkeys(tag(role, member.name) for member in house.with_role(role)))


def _people(row: Row, gateway: Member) -> list[str]:
    people = [f"{user}@" for user in gateway.openclaw_users]
    return people if row.source == "clients" else [each for each in people if each == row.source]
