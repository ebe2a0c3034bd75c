"""IP addresses and networks from outside: from settings, and from what hosts and programs say.

They become firewall rules, units, lines of /etc/hosts and arguments. Python's own functions also take numbers and
bytes, and let any text stand in an IPv6 zone ("fe80::1%; reboot"), so they are not asked before the text was looked at.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address(text: object) -> Address:
    """An IPv4 or IPv6 address without a zone. Raises ValueError."""
    return ipaddress.ip_address(_plain(text))


def network(text: object) -> Network:
    """A network in CIDR form without a zone, or one address. Raises ValueError."""
    return ipaddress.ip_network(_plain(text))


def node_addresses(found: Iterable[object] | None) -> tuple[str, ...]:
    """A node's addresses in the VPN as Headscale and Tailscale list them, IPv4 first. Raises ValueError."""
    return tuple(sorted((str(address(each)) for each in found or ()), key=lambda text: ":" in text))


def _plain(text: object) -> str:
    if not isinstance(text, str) or "%" in text:
        raise ValueError(f"{text!r} is not an address without a zone")
    return text
