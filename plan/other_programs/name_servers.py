"""Name servers of a person's own on a server: whom its firewall lets ask for names, and who would be cut off.

The host, or the whole household, has its names from them; some listen on 127.0.0.1 alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from plan.base.profile import Listener, Profile
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line
from plan.firewall.rules import is_system_user, ways_out
from plan.house.house import House, Member, row_out
from plan.other_programs.packet_fate import passed_on
from plan.verification import is_loopback

#: What they are asked at, and where they ask themselves: plainly, over TLS, over HTTPS.
ASKED_AT, ASKS_AT = 53, frozenset({53, 853, 443})
#: Programs that ask over HTTPS, or over DNSCrypt's own form of it, whatever account they run as. The kernel keeps 15
#: letters of a name.
OVER_HTTPS = frozenset({"cloudflared", "ctrld", "dnscrypt-proxy", "doh-client", "https_dns_proxy", "nextdns"})
#: What takes connections for a container. The container's own questions are passed on, not begun by the host.
PROXIES = frozenset({"docker-proxy"})


def lost_resolvers(house: House, member: Member, profile: Profile) -> list[SettingError]:
    """Name servers on a server that its firewall would cut off, or does."""
    found: dict[tuple[str, str, int], list[str]] = {}
    for listener in _resolvers(member, profile):
        if listener.account is not None:
            key = listener.process, listener.unit, listener.account
            found.setdefault(key, []).append(f"{listener.port}/{listener.proto} of {listener.address}")
    return [
        SettingError(
            f"host {member.name}: {line(process)} ({line(unit) or 'no unit'})",
            f"a name server on {', '.join(dict.fromkeys(at))} that {how}",
            "one that a server's firewall lets ask: as root at the addresses of rows of access_table; as a system "
            "account (1 to 999) at 53 and 853/tcp anywhere",
            f"{step}; or stop it, and name another in /etc/resolv.conf; or give the role to another host",
        )
        for (process, unit, account), at in found.items()
        for how, step in _cut(house, member, process, account)
    ]


def _resolvers(member: Member, profile: Profile) -> Iterator[Listener]:
    """Name servers for this host itself, or for its network. One for virtual machines, on their own bridge, is not."""
    published = passed_on(profile.beside.chains)
    for listener in profile.listeners:
        if listener.port != ASKED_AT or listener.process in PROXIES:
            continue
        # With none on it, a wildcard is every address of the family.
        here = listener.address in ("*", "::", "0.0.0.0") or is_loopback(listener.address)
        if not here and listener.address not in member.addresses:
            continue
        if not any(each.covers(listener.proto, listener.port) for each in published):
            yield listener


def _cut(house: House, member: Member, process: str, account: int) -> Iterator[tuple[str, str]]:
    """How one runs that would be cut off, and the next step; nothing for one that goes on."""
    if account == 0:
        # Which addresses it asks, only its owner knows: whoever has written rows has thought of it.
        if any(row.port in ASKS_AT for row in ways_out(house, member)):
            return
        unit = ""
        if process not in OVER_HTTPS:
            unit = (
                "; or have it run as an account of the system's, with User= and "
                "AmbientCapabilities=CAP_NET_BIND_SERVICE in its unit"
            )
        row = row_out(member, "ADDRESS THAT IT ASKS", "443/tcp" if process in OVER_HTTPS else "853/tcp")
        yield "runs as root", f"{row}, one for each address and port that it asks{unit}"
    elif process in OVER_HTTPS:
        yield (
            f"asks over HTTPS as account {account}",
            "use one that asks at 53 or 853, such as systemd-resolved with DNSOverTLS=yes",
        )
    elif not is_system_user(account):
        yield (
            f"runs as account {account}",
            "have it run as an account of the system's (adduser --system), with User= in its unit",
        )
