"""How a host gets Debian packages: by proxies or from mirrors. The rules let that out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from plan.engine.errors import SettingError
from plan.engine.ip_addresses import address
from plan.engine.terminal_text import line
from plan.house.house import Member

#: Where mirrors answer whose URL names no port.
WEB = (80, 443)


@dataclass(frozen=True)
class Apt:
    """How a host gets Debian packages: proxies as (address or name, port); none means its mirrors, on 80, 443 and the
    other ports that stand in their URLs."""

    proxies: tuple[tuple[str, int], ...] = ()
    mirror_ports: frozenset[int] = frozenset()


def apt_as_root(member: Member, apt_user: str) -> str:
    """A warning when a server's apt fetches as another account than _apt, "" else: the rules let that one out alone."""
    if apt_user == "_apt" or not member.is_server:
        return ""
    return (
        f"host {member.name}: apt fetches packages as {line(apt_user)!r}, whose way out is shut on a server, so it "
        "will get no updates. Next: take the line APT::Sandbox::User out of /etc/apt/apt.conf.d"
    )


def apt_of(host: str, urls: Iterable[str], mirrors: Iterable[str] = ()) -> Apt:
    """How a host gets Debian packages, by the URLs of its proxies as apt says them, and of its mirrors.

    Raises SettingError for one that is no proxy's: part of it becomes a rule.
    """
    proxies = []
    for url in urls:
        try:
            parts = urlsplit(url)
            name, port = parts.hostname, parts.port or 80
            if name and not re.fullmatch(r"[a-z0-9._-]+", name):
                name = str(address(name))
        except ValueError as error:
            raise SettingError(
                f"host {host}: apt's proxy",
                url,
                "http://NAME:PORT or http://ADDRESS:PORT",
                "correct it in /etc/apt/apt.conf or a file of /etc/apt/apt.conf.d",
            ) from error
        if name:
            proxies.append((name, port))
    return Apt(tuple(proxies), frozenset(at for url in mirrors if (at := _port(url)) and at not in WEB))


def _port(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        # apt does not understand it either.
        return None
