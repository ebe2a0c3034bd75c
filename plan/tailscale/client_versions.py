"""Versions of Tailscale on the nodes of the VPN: which of them cannot reach the house's hosts.

A client with Tailscale 1.106 or newer begins a connection in a way that older nodes do not understand, unless it knows
that the node is older. Headscale before 0.29.8 tells every client that all nodes are as new as the client
(juanfont/headscale#3724). So such a client joins the VPN but reaches no older node. Phones update themselves, so this
happens without anybody's action.
"""

from __future__ import annotations

import json
import re

from plan.engine.errors import STRANGE, shown
from plan.engine.ip_addresses import node_addresses
from plan.engine.terminal_text import line

#: The first version of Tailscale that begins connections in the new way.
NEW_WAY = (1, 106)
#: The first version of Headscale that tells clients the real version of each node.
HEADSCALE_TELLS = (0, 29, 8)


def cut_off_from(headscale: str, tailscale: str) -> str:
    """The first Tailscale version with which a client cannot reach the hosts: "1.106"; "" when every client can.

    Arguments: the versions on the house's control server and hosts, as in artifacts/pins.yaml.
    """
    if _numbers(headscale) >= HEADSCALE_TELLS or _numbers(tailscale) >= NEW_WAY:
        return ""
    return ".".join(map(str, NEW_WAY))


def is_cut_off(version: str, since: str) -> bool:
    """Whether a client with this version cannot reach the hosts. `since`: the result of `cut_off_from`. A client whose
    version is not known counts as one that can."""
    return bool(since) and _numbers(version) >= _numbers(since)


def client_versions(netmap: str) -> dict[str, str]:
    """Address in the VPN -> version of Tailscale on that node, from the output of `tailscale debug netmap` on a host.

    Each node tells its own version, so the text is made harmless to a terminal. Raises ValueError for output of another
    form.
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
    """1.106.2-t1a2b3c4d5 -> (1, 106, 2); () for text that is not a version."""
    found = re.match(r"[0-9]{1,9}(\.[0-9]{1,9})*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
