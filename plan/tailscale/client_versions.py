"""Versions of the Tailscale programs in the VPN: which of them cannot reach the house's hosts.

A client of 1.106 or newer begins a connection in a way that older nodes do not understand, unless it knows that the
node is older. Headscale before 0.29.8 tells every client that all others are as new as itself
(juanfont/headscale#3724). So such a client is in the VPN and reaches nobody who is older. Phones update themselves.
"""

from __future__ import annotations

import json
import re

from plan.engine.errors import STRANGE, shown
from plan.engine.ip_addresses import node_addresses
from plan.engine.terminal_text import line

#: Tailscale from here on begins connections in the new way.
NEW_WAY = (1, 106)
#: Headscale from here on tells of each node how old it is.
HEADSCALE_TELLS = (0, 29, 8)


def cut_off_from(headscale: str, tailscale: str) -> str:
    """The Tailscale version from which on a client cannot reach the hosts: "1.106", or "" when every client can.

    Arguments: the versions that the house's control server and hosts have, as in artifacts/pins.yaml.
    """
    if _numbers(headscale) >= HEADSCALE_TELLS or _numbers(tailscale) >= NEW_WAY:
        return ""
    return ".".join(map(str, NEW_WAY))


def is_cut_off(version: str, since: str) -> bool:
    """Whether a client of this version cannot reach the hosts. `since`: what `cut_off_from` says. A version that is not
    known is taken for one that can."""
    return bool(since) and _numbers(version) >= _numbers(since)


def client_versions(netmap: str) -> dict[str, str]:
    """Address in the VPN -> version of Tailscale there, from what `tailscale debug netmap` prints on a host.

    A version is what a node says of itself, made harmless to a terminal. Raises ValueError when it is not understood.
    """
    try:
        raw = json.loads(netmap)
        nodes = [node for node in (raw.get("SelfNode"), *(raw.get("Peers") or ())) if node]
        return {
            address: line((node.get("Hostinfo") or {}).get("IPNVersion"))
            for node in nodes
            for address in node_addresses([each.partition("/")[0] for each in node.get("Addresses") or ()])
        }
    except STRANGE as error:
        raise ValueError(f"tailscale's map of the VPN is not understood: {shown(error)}") from error


def _numbers(version: str) -> tuple[int, ...]:
    """1.106.2-t1a2b3c4d5 -> (1, 106, 2); () for what is no version."""
    found = re.match(r"[0-9]{1,9}(\.[0-9]{1,9})*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
