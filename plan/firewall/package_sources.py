"""Where a host gets Debian packages: from proxies or from mirrors. The firewall rules allow these connections."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from plan.engine.errors import SettingError
from plan.engine.ip_addresses import address
from plan.engine.terminal_text import line
from plan.house.house import Member

#: The ports of mirrors whose URL names no port (http, https).
WEB = (80, 443)


@dataclass(frozen=True)
class Apt:
    """Where a host gets Debian packages. `proxies`: (address or name, port). Without proxies it asks its mirrors, on
    the ports 80 and 443 and on `mirror_ports`, the other ports in their URLs."""

    proxies: tuple[tuple[str, int], ...] = ()
    mirror_ports: frozenset[int] = frozenset()


def apt_as_root(member: Member, apt_user: str) -> str:
    """A warning when a server's apt downloads with another account than _apt, since the rules allow only _apt; else
    ""."""
    if apt_user == "_apt" or not member.is_server:
        return ""
    return (
        f"host {member.name}: apt downloads packages with the account {line(apt_user)!r}, but a server's firewall lets "
        "only _apt do that, so the host gets no updates. Next: remove the line APT::Sandbox::User from its file in "
        "/etc/apt/apt.conf.d"
    )


def apt_of(host: str, urls: Iterable[str], mirrors: Iterable[str] = ()) -> Apt:
    """Where a host gets Debian packages. `urls`: the URLs of its proxies, from apt. `mirrors`: the URLs of its mirrors.

    Raises SettingError for a URL that cannot be a proxy's, because a part of it becomes a firewall rule.
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
        # apt cannot read this URL either.
        return None
