"""What else lives on a host: it works beside the house, or the run is refused before any change.

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

#: What finds neighbours, in every system: LLMNR, mDNS, SSDP. Nobody's service is lost with it.
DISCOVERY = {("udp", 5353), ("udp", 5355), ("tcp", 5355), ("udp", 1900)}
#: Clients of DHCP: the firewall lets their answers in.
DHCP = {("udp", 68), ("udp", 546)}
#: Programs of a fresh Debian that listen in order to ask; what they ask for is answered. rpcbind and rpc.statd are an
#: NFS client's. The kernel keeps 15 letters of a name.
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
#: Some of them also serve others, on these ports: time, names, addresses. ntpd has its port in either case.
SERVED = {
    ("udp", 123): "chronyd",
    ("udp", 53): "systemd-resolve",
    ("tcp", 53): "systemd-resolve",
    ("udp", 67): "systemd-network",
    ("udp", 547): "systemd-network",
}
#: From here on the kernel gives ports to whoever asks something (ip_local_port_range), by UDP without being connected.
EPHEMERAL = 32768
#: Who runs containers, as plan/other_programs/nft_listing.py calls them.
ENGINES = {"Docker", "Podman"}


def check_beside(house: House, member: Member, profile: Profile) -> tuple[list[SettingError], list[str]]:
    """All problems with what else is on a host (any one stops the run) and warnings. Pure: nothing is raised."""
    problems = [*_places(member, profile), *_accounts(member, profile), *refusals(house, member, profile)]
    problems += changed(member, profile.beside.drop_ins, profile.beside.claimed)
    past, warnings = passed(house, member, profile)
    problems += past
    cut = list(_lost_ways_out(house, member, profile)) if member.is_server else []
    # Before the firewall is in force nothing is lost unseen. Afterwards it does not keep a house from being repaired.
    if profile.beside.fenced:
        warnings += map(str, cut)
    else:
        problems += cut
        # A program that came later was never reached from outside, so nothing is taken from it.
        foreign = list(_foreign(house, member, profile))
        problems += _cut_off(house, member, foreign)
        warnings += _way_out(member, profile, foreign)
    return problems, warnings


def _lost_ways_out(house: House, member: Member, profile: Profile) -> Iterator[SettingError]:
    """What a server itself begins for others and would not any more: mounts, disks, tunnels, questions for names."""
    for way in profile.outgoing:
        yield from lost_way(house, member, way)
    yield from lost_resolvers(house, member, profile)


def _places(member: Member, profile: Profile) -> Iterator[SettingError]:
    """Programs of the same kinds that the house did not install."""
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
                f"host {member.name}: {claim.name}", said, "nothing that the house did not make", claim.instead
            )


def _traces(profile: Profile) -> Iterator[str]:
    """What shows a Tailscale that lies elsewhere, such as in a container. Ours would take its chains for leftovers."""
    if any(name == VPN_INTERFACE for name, _ in profile.addresses):
        yield f"interface {VPN_INTERFACE}"
    for chain in profile.beside.chains:
        if chain.name.startswith("ts-"):
            yield f"chain {chain.name} of {chain.full_table}"


def _accounts(member: Member, profile: Profile) -> Iterator[SettingError]:
    """Accounts and groups with a name of ours that are somebody else's."""
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
                f"no such account, or one of the system's without a login and with the home {home}",
                f"if nobody needs it: userdel {name} (its files stay). Else rename it (usermod --login NEW {name}; "
                f"groupmod --new-name NEW {name}) or give the role to another host",
            )


def _cut_off(house: House, member: Member, foreign: list[Listener]) -> Iterator[SettingError]:
    """Programs that would be out of reach, since no row of the access table leads to them."""
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
            # A row of its own, from `lan`, would let in everybody whom admin_networks keeps out.
            step = (
                f"give row 'ssh' of access_table the port '{first}', so that admin_networks alone may come, see "
                "docs/access-table.md#to-change-it"
            )
        yield SettingError(
            f"host {member.name}: {program}",
            f"listening on {', '.join(ports)}",
            "ports of the access table; the firewall shuts all others off from the network",
            step,
        )


def _way_out(member: Member, profile: Profile, foreign: list[Listener]) -> Iterator[str]:
    """What a server's closed way out means for the programs that are there."""
    programs = {_named(listener) for listener in foreign}
    engines = ENGINES & {owner(chain, profile.beside.chains) for chain in profile.beside.chains}
    if (programs or engines) and member.is_server:
        yield (
            f"host {member.name}: on a server only the house's own programs begin connections. From now on others can "
            f"answer but not ask: {', '.join(sorted(programs | engines))}. See docs/other-programs.md."
        )
    if engines and member.is_server:
        yield (
            f"host {member.name}: containers of {' and '.join(sorted(engines))} keep their way out and their published "
            "ports, but not for this host itself, and not for what goes through the engine's proxy (IPv6, 127.0.0.1)."
        )


def _foreign(house: House, member: Member, profile: Profile) -> Iterator[Listener]:
    """Listeners that others can reach and that are neither the house's, nor SSH, nor the system's own asking."""
    own = {unit for claim in claims_of(member.roles) for unit in claim.units} | {"openclaw.service"}
    harmless = DISCOVERY | DHCP | {("tcp", house.port("ssh"))}
    published = passed_on(profile.beside.chains)
    for listener in profile.listeners:
        address = listener.address
        if (listener.proto, listener.port) in harmless or listener.unit in own:
            continue
        # Until somebody comes, systemd itself has the socket.
        asks = listener.process in ASKERS or listener.unit.removesuffix(".socket") in ASKERS
        if asks and SERVED.get((listener.proto, listener.port)) != listener.process:
            continue
        if is_loopback(address) or is_vpn(house, address):
            continue
        if address != "*" and ipaddress.ip_address(address).is_multicast:
            continue
        # Without a process it is the kernel's own, such as a WireGuard tunnel, which others begin.
        if listener.proto == "udp" and listener.port >= EPHEMERAL and listener.process:
            continue
        # Docker's proxy listens where the kernel passes packets on; that is said of the port.
        if any(each.covers(listener.proto, listener.port) for each in published):
            continue
        yield listener


def _named(listener: Listener) -> str:
    # Programs choose their own names.
    return line(f"{listener.process or 'a program the kernel does not name'} ({listener.unit or 'no unit'})")
