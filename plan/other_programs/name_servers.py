"""People's own name servers on a server of the house: which of them the firewall lets ask, and which it would cut off.

The host or the whole household uses them. Some listen only on 127.0.0.1.
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

#: The port on which a name server is asked, and the ports at which it asks others: plain DNS, DNS over TLS and HTTPS.
ASKED_AT, ASKS_AT = 53, frozenset({53, 853, 443})
#: Programs that ask over HTTPS or DNSCrypt; they can run as any account. The kernel keeps 15 letters of a name.
OVER_HTTPS = frozenset({"cloudflared", "ctrld", "dnscrypt-proxy", "doh-client", "https_dns_proxy", "nextdns"})
#: Programs that accept connections for a container. The container's own questions are forwarded packets, which the
#: rules for the host's own connections do not affect.
PROXIES = frozenset({"docker-proxy"})


def lost_resolvers(house: House, member: Member, profile: Profile) -> list[SettingError]:
    """Errors for name servers on a server that the firewall cuts off, or would cut off."""
    found: dict[tuple[str, str, int], list[str]] = {}
    for listener in _resolvers(member, profile):
        if listener.account is not None:
            key = listener.process, listener.unit, listener.account
            found.setdefault(key, []).append(f"{listener.port}/{listener.proto} of {listener.address}")
    return [
        SettingError(
            f"host {member.name}: {line(process)} ({line(unit) or 'no unit'})",
            f"a name server on {', '.join(dict.fromkeys(at))} that {how}",
            "one that a server's firewall lets ask others: as root, at the addresses in rows of access_table; as a "
            "system account (1 to 999), at ports 53 and 853/tcp of any address",
            f"{step}; or stop it, and name another in /etc/resolv.conf; or give the role to another host",
        )
        for (process, unit, account), at in found.items()
        for how, step in _cut(house, member, process, account)
    ]


def _resolvers(member: Member, profile: Profile) -> Iterator[Listener]:
    """Name servers that serve this host or its network. Leaves out one that serves virtual machines on their bridge."""
    published = passed_on(profile.beside.chains)
    for listener in profile.listeners:
        if listener.port != ASKED_AT or listener.process in PROXIES:
            continue
        # "::" and "0.0.0.0" mean all addresses of the family.
        here = listener.address in ("*", "::", "0.0.0.0") or is_loopback(listener.address)
        if not here and listener.address not in member.addresses:
            continue
        if not any(each.covers(listener.proto, listener.port) for each in published):
            yield listener


def _cut(house: House, member: Member, process: str, account: int) -> Iterator[tuple[str, str]]:
    """For a name server that would be cut off: how it runs, and the next step. Nothing for one that goes on working."""
    if account == 0:
        # Only the owner knows which addresses it asks. If there are rows for such ports, the owner has seen to it.
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
