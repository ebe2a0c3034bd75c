"""Connections that a host's kernel begins, or root on its behalf: network file systems, disks, tunnels.

Their sockets belong to no account, so a server's firewall lets them out only if the access table has a row for them.
"""

from __future__ import annotations

from collections.abc import Iterator

from plan.base.profile import Outgoing
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line
from plan.firewall.rules import ways_out
from plan.house.house import House, Member, row_out


def lost_way(house: House, member: Member, way: Outgoing) -> Iterator[SettingError]:
    """Errors for a connection of a server's kernel that would fail after the next boot; none if the rules allow it."""
    allowed = {(row.target, f"{row.port}/{row.protocol}") for row in ways_out(house, member)}
    missing = [port for port in way.ports if (way.address, port) not in allowed]
    where = f"host {member.name}: {line(way.what)}"
    server = line(f"{way.server} ({way.address})" if way.address not in ("", way.server) else way.server)
    give_up = "give it up on this host, also in its files for the next boot"
    if not way.ports:
        yield SettingError(
            where,
            f"at {server}",
            "nothing that needs many ports: a server's kernel may connect only where a row of access_table says so",
            f"{give_up}; or give the role to another host",
        )
    elif missing:
        first, *more = missing
        likewise = f", likewise for {', '.join(more)}" if more else ""
        yield SettingError(
            where,
            f"at {server}, {', '.join(missing)}",
            "what a row of access_table lets the kernel of a server reach; without a row it fails after the next boot",
            f"{row_out(member, way.address or f'ADDRESS OF {line(way.server)}', first)}{likewise}; or {give_up}",
        )
    if way.ports and way.asked:
        yield SettingError(
            where,
            f"at the name {line(way.server)}",
            "an address, or a name of /etc/hosts: a server's firewall does not let root ask a name server",
            f"write the address instead of the name, for example in /etc/fstab; or add to the host's /etc/hosts: "
            f"{way.address or 'ADDRESS'} {line(way.server)}",
        )
