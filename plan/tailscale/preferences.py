"""The preferences of Tailscale on a host of the house: the host is a node, and all other features are off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Option of `tailscale set` that switches a feature off -> path of the feature in the JSON of `tailscale debug prefs`.
#: The value there is empty or false when the feature is off.
OFF: Mapping[str, str] = {
    "--accept-routes=false": "RouteAll",
    "--advertise-connector=false": "AppConnector.Advertise",
    "--advertise-exit-node=false": "AdvertiseRoutes",
    "--advertise-routes=": "AdvertiseRoutes",
    "--auto-update=false": "AutoUpdate.Apply",
    "--exit-node=": "ExitNodeID",
    # Our firewall has rules against forged VPN addresses instead of Tailscale's; see plan/firewall/rules.py.
    "--netfilter-mode=off": "NetfilterMode",
    "--report-posture=false": "PostureChecking",
    "--shields-up=false": "ShieldsUp",
    "--ssh=false": "RunSSH",
    "--update-check=false": "AutoUpdate.Check",
    "--webclient=false": "RunWebClient",
}


def still_on(prefs: Mapping[str, Any]) -> tuple[str, ...]:
    """The options of OFF that a run has to set. Raises KeyError for preferences of another form."""
    found = []
    for option, path in OFF.items():
        value: Any = prefs
        for name in path.split("."):
            value = value[name]
        if value:
            found.append(option)
    return tuple(found)
