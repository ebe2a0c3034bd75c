"""What Tailscale may do on a host of the house: be a node, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Option of `tailscale set` -> where `tailscale debug prefs` (JSON) has what it switches off, empty or false when off.
OFF: Mapping[str, str] = {
    "--accept-routes=false": "RouteAll",
    "--advertise-connector=false": "AppConnector.Advertise",
    "--advertise-exit-node=false": "AdvertiseRoutes",
    "--advertise-routes=": "AdvertiseRoutes",
    "--auto-update=false": "AutoUpdate.Apply",
    "--exit-node=": "ExitNodeID",
    # Our own firewall has Tailscale's spoof guard; see plan/firewall/rules.py.
    "--netfilter-mode=off": "NetfilterMode",
    "--report-posture=false": "PostureChecking",
    "--shields-up=false": "ShieldsUp",
    "--ssh=false": "RunSSH",
    "--update-check=false": "AutoUpdate.Check",
    "--webclient=false": "RunWebClient",
}


def still_on(prefs: Mapping[str, Any]) -> tuple[str, ...]:
    """The options of OFF that have to be set. Raises KeyError for preferences of another shape."""
    found = []
    for option, path in OFF.items():
        value: Any = prefs
        for name in path.split("."):
            value = value[name]
        if value:
            found.append(option)
    return tuple(found)
