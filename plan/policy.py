"""The Headscale policy that follows from the access table (Headscale 0.29 policy reference)."""

from __future__ import annotations

from plan.access import ROLES, Row
from plan.house import House

#: Inventory group -> how the policy names the nodes of it.
SELECTORS = {
    "coordinator": "tag:coordinator",
    "gateway": "tag:gateway",
    "model_hosts": "tag:model-host",
    "clients": "group:clients",
}


def policy(house: House) -> dict[str, object]:
    """The policy as a JSON object. `grants` is always there: a policy without it would allow everything."""
    grants = [_grant(row) for row in house.access if row.over == "vpn"]
    return {
        "groups": {"group:clients": [f"{user}@" for user in house.users]},
        "tagOwners": {selector: [] for role in ROLES if (selector := SELECTORS[role]).startswith("tag:")},
        "grants": grants,
        # Clients would otherwise look for captive portals at Tailscale's own hosts.
        "nodeAttrs": [{"target": ["*"], "attr": ["disable-captive-portal-detection"]}],
    }


def _grant(row: Row) -> dict[str, list[str]]:
    # A person stands in the table as Headscale writes users.
    targets = [SELECTORS[role] for role in ROLES] if row.target == "all" else [SELECTORS[row.target]]
    return {"src": [SELECTORS.get(row.source, row.source)], "dst": targets, "ip": [f"{row.protocol}:{row.port}"]}
