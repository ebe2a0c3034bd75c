"""Checks single values of settings. A wrong value is refused, never corrected.

The values become parts of commands, rules, units and files on hosts. No value that passes has a special meaning there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from plan.engine.errors import SettingError, nearest, refuse
from plan.engine.ip_addresses import address, network, of_no_use_on_lan

#: One label of a name (RFC 1123), lower case.
LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
#: A certificate's common name has 64 characters at most (RFC 5280, ub-common-name). "Private AI  CA" needs 14 of them.
HOUSE_NAME_MOST = 50
#: A name has 253 characters at most (RFC 1035), and "HOST.vpn." may stand before the domain.
DOMAIN_MOST = 180
#: Unit of an expiry -> hours. The limit in years: Headscale counts nanoseconds in 63 bits, which is enough for 292
#: years.
HOURS = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}
EXPIRY_YEARS = 100


def is_label(value: object) -> bool:
    """Whether this can be one label of a domain name (the part between two dots)."""
    return isinstance(value, str) and re.fullmatch(LABEL, value) is not None


def label(where: str, value: Any, most: int = 63) -> str:
    """A name of one label. Raises SettingError."""
    if not is_label(value) or len(value) > most:
        raise SettingError(where, value, f"lower-case letters, digits and '-', {most} at most", "rename it")
    return str(value)


def words(where: str, value: object) -> str:
    """A few words for people. Raises SettingError for an empty text, and for characters that control a terminal."""
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 200:
        raise SettingError(where, value, "a few words on one line, 200 characters at most", "rewrite it")
    return value


def domain(value: object) -> str:
    """The house's domain. Raises SettingError."""
    accepted = "a domain below .internal or of your own, two labels or more, lower case"
    where = "group_data/all.py: house_domain"
    # Browsers read a name whose last label is a number as an IPv4 address (WHATWG URL, "ends in a number").
    form = rf"(?:{LABEL}\.)+(?=[a-z]){LABEL}"
    if not isinstance(value, str) or not re.fullmatch(form, value) or len(value) > DOMAIN_MOST:
        raise SettingError(where, value, accepted, "use for example 'house.internal'")
    if value.endswith(".local"):
        # .local belongs to multicast DNS (RFC 6762): resolvers never ask a server for it.
        raise SettingError(where, value, accepted, "use .internal instead of .local, which is multicast DNS")
    return value


def users(value: object) -> tuple[str, ...]:
    """Names of Headscale users, at least one. Raises SettingError."""
    where = "group_data/all.py: headscale_users"
    if not isinstance(value, list) or not value:
        raise SettingError(where, value, "a list with at least one name", "use ['people']")
    for number, name in enumerate(value):
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", name):
            raise SettingError(where, name, "two or more lower-case letters, digits, '-', a letter first", "rename it")
        if name in value[:number]:
            raise SettingError(where, name, "every name once", "remove one of the two")
    return tuple(value)


def some_users(where: str, value: object, known: tuple[str, ...]) -> tuple[str, ...]:
    """Some of the Headscale users, at least one. Raises SettingError."""
    accepted = f"a list with at least one of headscale_users: {', '.join(known)}"
    if not isinstance(value, list) or not value:
        raise SettingError(where, value, accepted, f"write for example {[known[0]]}")
    for number, name in enumerate(value):
        if name not in known:
            raise SettingError(where, name, accepted, nearest(name, known, "add the person to headscale_users"))
        if name in value[:number]:
            raise SettingError(where, name, "every name once", "remove one of the two")
    return tuple(value)


def networks(value: object) -> tuple[str, ...]:
    """Networks in CIDR form, at least one. Raises SettingError."""
    where = "group_data/all.py: admin_networks"
    if not isinstance(value, list) or not value:
        raise SettingError(
            where,
            value,
            "a list with at least one network in CIDR form, else nobody could reach SSH",
            "use ['192.168.0.0/16']",
        )
    accepted = "networks in CIDR form such as 192.168.1.0/24"

    def read(text: object) -> str:
        found = network(text)
        if "/" not in str(text):
            # Some people write 192.168.1.0 for one computer, others for a network.
            wider = ip_network((found.network_address, 24 if found.version == 4 else 64), strict=False)
            step = f"write '{found}' for this computer alone, or '{wider}' for its network"
            raise SettingError(where, text, accepted, step)
        return str(found)

    return _each(where, value, read, accepted, "correct it")


def lan_addresses(host: str, value: object, setting: str = "lan_addresses") -> tuple[str, ...]:
    """A host's addresses on its local network, each once, IPv4 before IPv6. `setting`: the setting that has them.

    Raises SettingError, also for addresses at which no other host can reach this one.
    """
    where, accepted = f"{host}: lan_addresses", "IPv4 and IPv6 addresses of the host on its local network"
    add = "add 'lan_addresses': ['192.168.1.10'] to the host's data"
    if not isinstance(value, list) or not value:
        raise SettingError(where, value, f"a list of {accepted}", add)
    found = _each(where, value, address, accepted, add)
    for text in value:
        if why := of_no_use_on_lan(address(text)):
            raise SettingError(f"{host}: {setting}", text, f"{accepted}; this is {why}", add)
    return tuple(sorted(dict.fromkeys(found), key=lambda text: ":" in text))


def expiry(value: object) -> str:
    """The time after which a node has to join again, in the form that Headscale reads. Raises SettingError."""
    # Headscale only warns about a duration that it cannot parse, and then nodes never expire.
    form = re.fullmatch(r"([1-9][0-9]{0,6})([hdwy])", value) if isinstance(value, str) else None
    if value != "0" and (form is None or int(form[1]) * HOURS[form[2]] > EXPIRY_YEARS * HOURS["y"]):
        raise SettingError(
            "group_data/all.py: headscale_node_expiry",
            value,
            f"'0' for never, or a time such as '24h' or '180d', {EXPIRY_YEARS} years at most",
            "correct it",
        )
    return str(value)


def ports(where: str, value: object) -> frozenset[str]:
    """Ports as "NUMBER/tcp" or "NUMBER/udp". The list may be empty. Raises SettingError."""
    accepted = "a list of 'NUMBER/tcp' and 'NUMBER/udp'"
    if not isinstance(value, list):
        raise SettingError(where, value, accepted, "write for example ['80/tcp']")
    for port in value:
        form = re.fullmatch(r"([1-9][0-9]{0,4})/(tcp|udp)", port) if isinstance(port, str) else None
        if form is None or int(form[1]) > 65535:
            raise SettingError(where, port, accepted, "write for example '80/tcp'")
    return frozenset(value)


def _each(where: str, value: list[Any], read: Callable[[object], object], accepted: str, then: str) -> tuple[str, ...]:
    found, problems = [], []
    for text in value:
        try:
            found.append(str(read(text)))
        except SettingError as error:
            problems.append(error)
        except ValueError:
            problems.append(SettingError(where, text, accepted, then))
    refuse(problems)
    return tuple(found)
