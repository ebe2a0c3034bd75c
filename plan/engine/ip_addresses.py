"""Reads IP addresses and networks that come from outside: from settings, and from the output of hosts and programs.

They become firewall rules, units, lines of /etc/hosts and arguments. Python's own functions also accept numbers and
bytes, and any text as an IPv6 zone ("fe80::1%; reboot"). So we check the text first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The address ranges of the VPN. Every Tailscale network uses these two.
VPN_V4, VPN_V6 = "100.64.0.0/10", "fd7a:115c:a1e0::/48"


def address(text: object) -> Address:
    """An IPv4 or IPv6 address without a zone. Raises ValueError."""
    return ipaddress.ip_address(_plain(text))


def is_address(text: object) -> bool:
    """Whether `address` accepts this text."""
    try:
        address(text)
    except ValueError:
        return False
    return True


def network(text: object) -> Network:
    """A network in CIDR form without a zone, or one address. Raises ValueError."""
    return ipaddress.ip_network(_plain(text))


def node_addresses(found: Iterable[object] | None) -> tuple[str, ...]:
    """A node's addresses in the VPN, from a list of Headscale or Tailscale, IPv4 first. Raises ValueError."""
    return tuple(sorted((str(address(each)) for each in found or ()), key=lambda text: ":" in text))


def of_no_use_on_lan(found: Address) -> str:
    """Why other hosts on the network cannot reach a host at this address; "" when nothing speaks against it."""
    for vpn in (VPN_V4, VPN_V6):
        if found in ipaddress.ip_network(vpn):
            return "an address in the VPN, which hosts reach only after they have reached the control server"
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        return "an IPv4 address written as IPv6"
    reasons = {
        "is_loopback": "every host's own loopback",
        "is_unspecified": "no address of one host",
        "is_multicast": "a multicast address",
        "is_link_local": "a link-local address, which means nothing without an interface",
        "is_reserved": "a reserved address",
    }
    return next((why for name, why in reasons.items() if getattr(found, name)), "")


def _plain(text: object) -> str:
    if not isinstance(text, str) or "%" in text:
        raise ValueError(f"{text!r} is not an address without a zone")
    return text
