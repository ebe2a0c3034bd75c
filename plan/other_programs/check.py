"""Checks the other programs on a host: they can go on working beside the house, or the run stops before any change.

See docs/other-programs.md.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from plan.base.profile import Listener, Profile
from plan.engine.claims import accounts_of, claims_of, is_ours
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line
from plan.firewall.rules import VPN_INTERFACE
from plan.house.house import House, Member, leads_to, row_for
from plan.other_programs.drop_ins import changed
from plan.other_programs.kernel_connections import lost_way
from plan.other_programs.name_servers import lost_resolvers
from plan.other_programs.nft_listing import owner
from plan.other_programs.other_firewalls import passed, refusals
from plan.other_programs.packet_fate import passed_on
from plan.verification import is_loopback, is_vpn

#: Ports of protocols that look for other machines, on every system: LLMNR, mDNS, SSDP. Nobody misses them when the
#: firewall closes them.
DISCOVERY = {("udp", 5353), ("udp", 5355), ("tcp", 5355), ("udp", 1900)}
#: Ports of DHCP clients. The firewall lets in the answers that they get.
DHCP = {("udp", 68), ("udp", 546)}
#: Programs of a new Debian system that listen only to get answers to their own questions; the firewall lets the answers
#: in. rpcbind and rpc.statd belong to an NFS client. The kernel keeps 15 letters of a program's name.
ASKERS = {
    "NetworkManager",
    "avahi-daemon",
    "chronyd",
    "cups-browsed",
    "dhclient",
    "dhcpcd",
    "ntpd",
    "rpc.statd",
    "rpcbind",
    "systemd-network",
    "systemd-resolve",
    "systemd-timesyn",
}
#: Ports on which some of them also serve other machines: time, names, addresses. ntpd is not here, because it always
#: listens on its port, whether it serves others or not.
SERVED = {
    ("udp", 123): "chronyd",
    ("udp", 53): "systemd-resolve",
    ("tcp", 53): "systemd-resolve",
    ("udp", 67): "systemd-network",
    ("udp", 547): "systemd-network",
}
#: The first port that the kernel gives to a program for its own questions (ip_local_port_range). A UDP socket of this
#: kind looks like a listening one.
EPHEMERAL = 32768
#: Container engines, with the names that plan/other_programs/nft_listing.py gives them.
ENGINES = {"Docker", "Podman"}


def check_beside(house: House, member: Member, profile: Profile) -> tuple[list[SettingError], list[str]]:
    """All problems with other programs on a host (any one stops the run), and warnings. This function raises
    nothing."""
    problems = [*_places(member, profile), *_accounts(member, profile), *refusals(house, member, profile)]
    problems += changed(member, profile.beside.drop_ins, profile.beside.claimed)
    past, warnings = passed(house, member, profile)
    problems += past
    cut = list(_lost_ways_out(house, member, profile)) if member.is_server else []
    # Before the first firewall these are problems, so that no program loses its connections without notice. Later they
    # are only warnings, because a problem would stop a run that repairs the house.
    if profile.beside.fenced:
        warnings += map(str, cut)
    else:
        problems += cut
        # Only before the first firewall: a program that came later was never open to other machines.
        foreign = list(_foreign(house, member, profile))
        problems += _cut_off(house, member, foreign)
        warnings += _way_out(member, profile, foreign)
    return problems, warnings


def _lost_ways_out(house: House, member: Member, profile: Profile) -> Iterator[SettingError]:
    """Connections that a server begins now and that the firewall would refuse: mounts, disks, tunnels, name servers."""
    for way in profile.outgoing:
        yield from lost_way(house, member, way)
    yield from lost_resolvers(house, member, profile)


def _places(member: Member, profile: Profile) -> Iterator[SettingError]:
    """Programs of the same kinds as the house's, which somebody else has installed."""
    beside = profile.beside
    for claim in claims_of(member.roles):
        there = claim.found(beside.places, beside.claimed)
        vpn = ""
        if claim.name == "Tailscale" and not set(claim.places) <= beside.claimed:
            there += _traces(profile)
            if beside.vpn.state:
                in_use = "logged in to" if beside.vpn.logged_in else "not logged in; its control server is"
                vpn = f"{in_use} {beside.vpn.control}; "
        if there:
            said = f"{vpn}there already: {', '.join(there)}"
            yield SettingError(
                f"host {member.name}: {claim.name}", said, "nothing there that somebody else has made", claim.instead
            )


def _traces(profile: Profile) -> Iterator[str]:
    """Signs of a Tailscale at other paths, for example in a container. Our Tailscale would remove its chains, because
    it would take them for its own old ones."""
    if any(name == VPN_INTERFACE for name, _ in profile.addresses):
        yield f"interface {VPN_INTERFACE}"
    for chain in profile.beside.chains:
        if chain.name.startswith("ts-"):
            yield f"chain {chain.name} of {chain.full_table}"


def _accounts(member: Member, profile: Profile) -> Iterator[SettingError]:
    """Accounts and groups that have one of our names and belong to somebody else."""
    logins = {login.name: login for login in profile.beside.logins}
    for name, home in accounts_of(member.roles).items():
        login = logins.get(name)
        if login is None and name in profile.beside.groups:
            yield SettingError(
                f"host {member.name}: group {name}", "without its account", "both or neither", f"groupdel {name}"
            )
        elif login is not None and not is_ours(login):
            yield SettingError(
                f"host {member.name}: account {name}",
                f"number {login.number}, home {login.home}, shell {login.shell}",
                f"no such account, or a system account without a login shell and with the home {home}",
                f"if nobody needs it: userdel {name} (its files stay). Else rename it (usermod --login NEW {name}; "
                f"groupmod --new-name NEW {name}) or give the role to another host",
            )


def _cut_off(house: House, member: Member, foreign: list[Listener]) -> Iterator[SettingError]:
    """Programs that the firewall would close, because no row of the access table opens their port."""
    open_ports = {f"{row.port}/{row.protocol}" for row in house.access if leads_to(row, member)} | member.shut_off
    lost: dict[str, dict[str, None]] = {}
    sshd = set()
    for listener in foreign:
        port = f"{listener.port}/{listener.proto}"
        if port not in open_ports:
            lost.setdefault(_named(listener), {})[port] = None
            if listener.is_sshd:
                sshd.add(_named(listener))
    for program, ports in lost.items():
        first, *more = ports
        likewise = ", likewise for the others" if more else ""
        listed = ", ".join(f"'{port}'" for port in ports)
        step = f"{row_for(member, first)}{likewise}; or accept that: 'firewall_shut_off': [{listed}] in the host's data"
        if program in sshd:
            # A new row from `lan` would open SSH to all, also to addresses outside admin_networks.
            step = (
                f"give row 'ssh' of access_table the port '{first}', so that admin_networks alone may come, see "
                "docs/access-table.md#to-change-it"
            )
        yield SettingError(
            f"host {member.name}: {program}",
            f"listening on {', '.join(ports)}",
            "ports of the access table; the firewall closes all others to the network",
            step,
        )


def _way_out(member: Member, profile: Profile, foreign: list[Listener]) -> Iterator[str]:
    """Warnings about programs on a server, which can no longer begin connections."""
    programs = {_named(listener) for listener in foreign}
    engines = ENGINES & {owner(chain, profile.beside.chains) for chain in profile.beside.chains}
    if (programs or engines) and member.is_server:
        yield (
            f"host {member.name}: on a server only the house's own programs begin connections. From now on others can "
            f"answer but not ask: {', '.join(sorted(programs | engines))}. See docs/other-programs.md."
        )
    if engines and member.is_server:
        yield (
            f"host {member.name}: containers of {' and '.join(sorted(engines))} can still connect out, and other "
            "machines still reach their published ports. But this host itself does not reach them, and connections "
            "through the engine's proxy (IPv6, 127.0.0.1) do not work."
        )


def _foreign(house: House, member: Member, profile: Profile) -> Iterator[Listener]:
    """Listeners that other machines can reach, except those of the house, SSH, and programs that only ask."""
    own = {unit for claim in claims_of(member.roles) for unit in claim.units} | {"openclaw.service"}
    harmless = DISCOVERY | DHCP | {("tcp", house.port("ssh"))}
    published = passed_on(profile.beside.chains)
    for listener in profile.listeners:
        address = listener.address
        if (listener.proto, listener.port) in harmless or listener.unit in own:
            continue
        # Until somebody connects, systemd itself holds the socket.
        asks = listener.process in ASKERS or listener.unit.removesuffix(".socket") in ASKERS
        if asks and SERVED.get((listener.proto, listener.port)) != listener.process:
            continue
        if is_loopback(address) or is_vpn(house, address):
            continue
        if address != "*" and ipaddress.ip_address(address).is_multicast:
            continue
        # A socket without a process belongs to the kernel, for example a WireGuard tunnel. Other machines connect to
        # it.
        if listener.proto == "udp" and listener.port >= EPHEMERAL and listener.process:
            continue
        # Docker's proxy listens on a port whose packets the kernel passes on. `passed` reports that port.
        if any(each.covers(listener.proto, listener.port) for each in published):
            continue
        yield listener


def _named(listener: Listener) -> str:
    # A program chooses its own name, so the name may have control characters.
    return line(f"{listener.process or 'a program the kernel does not name'} ({listener.unit or 'no unit'})")
