"""What the verification expects of a house. It follows from the access table, like the firewall and the policy."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from plan.backup.places import ARCHIVES
from plan.base.profile import Listener
from plan.firewall.rules import service_egress
from plan.house.access_table import Row
from plan.house.house import House, Member, leads_to
from plan.renewal import gateway_keys

Protocol = Literal["tcp", "udp"]
Witness = Literal["outside", "controller", "listener"]

#: Row of the access table -> the units that may listen on its port, on a host to which the row leads.
OWNERS: dict[str, tuple[str, ...]] = {
    "ssh": ("ssh.service", "sshd.service", "ssh.socket", "init.scope"),
    "headscale": ("headscale.service",),
    "stun": ("headscale.service",),
    "wireguard": ("tailscaled.service",),
    "openclaw": ("openclaw.service",),
    "ollama": ("ollama.service", "ollama-vpn.socket", "ollama-vpn.service"),
}
#: Rows whose service the verification asks in the service's protocol. Of others it sees only whether they accept.
KINDS = {"ssh": "ssh", "headscale": "headscale", "openclaw": "openclaw", "ollama": "ollama"}
#: Rows whose service has no IPv6: OpenClaw's gateway.bind accepts only IPv4 addresses. Clients use IPv4 without delay.
IPV4_ONLY = frozenset({"openclaw"})


def open_to_lan(house: House, member: Member, protocol: Protocol, *, admin: bool) -> frozenset[int]:
    """Ports of `member` that must answer a machine outside the VPN. `admin`: its address is in admin_networks."""
    sources = ("lan", "admin") if admin else ("lan",)
    return frozenset(
        row.port
        for row in house.access
        if row.over == "lan" and row.source in sources and row.protocol == protocol and leads_to(row, member)
    )


def open_over_vpn(house: House, source: Member, target: Member) -> frozenset[int]:
    """TCP ports of `target` that must answer `source` over the VPN."""
    return frozenset(row.port for row in rows_over_vpn(house, source, target))


def rows_over_vpn(house: House, source: Member, target: Member) -> tuple[Row, ...]:
    """TCP rows of the table that let `source` in at `target` over the VPN."""
    return tuple(
        row
        for row in house.access
        if row.over == "vpn" and row.protocol == "tcp" and house.lets_in(row, source, target)
    )


def rows_at(house: House, member: Member) -> tuple[Row, ...]:
    """TCP rows of the table that lead to `member`."""
    return tuple(row for row in house.access if row.protocol == "tcp" and leads_to(row, member))


def speaker(row: Row, source: Member) -> str:
    """The account on `source` that makes the connections of a row; "" for any account."""
    # The firewall lets only some accounts of a server begin connections (plan/firewall/rules.py).
    return "openclaw" if row.id == "ollama" and source.is_server else ""


def served_at(row: Row, addresses: Iterable[str]) -> tuple[str, ...]:
    """The addresses, out of `addresses`, at which a row's service answers."""
    return tuple(address for address in addresses if row.id not in IPV4_ONLY or ":" not in address)


def kind(row: Row) -> str:
    """The protocol in which the verification asks a row's service; tcp for a service that it does not know."""
    return KINDS.get(row.id, "tcp")


def tls_name(house: House, row: Row, member: Member) -> str:
    """The name in the certificate of a row's service on a host; "-" for a service without a certificate."""
    return {"headscale": house.headscale_name, "openclaw": house.vpn_name(member)}.get(row.id, "-")


def service_of(house: House, member: Member, port: int) -> str:
    """A TCP port of a host in words: "HOST/ROW" when a row of the table leads to this port, else "HOST PORT/tcp"."""
    found = next((row.id for row in rows_at(house, member) if row.port == port), "")
    return f"{member.name}/{found}" if found else f"{member.name} {port}/tcp"


def closed_over_vpn(house: House, source: Member, target: Member, listeners: Iterable[Listener]) -> frozenset[int]:
    """TCP ports of `target` that must not answer `source`: those of the table, and all on which a program listens.

    Except tailscaled's own ports between nodes (peerAPI): its packet filter lets every node of the network map in, and
    tailscaled then decides about each request (tailscale.com/net/tstun, filterPacketInboundFromWireGuard).
    """
    known = {row.port for row in house.access if row.protocol == "tcp"}
    known |= {each.port for each in listeners if each.proto == "tcp" and not is_peer_port(house, each)}
    return frozenset(known) - open_over_vpn(house, source, target)


def is_loopback(address: str) -> bool:
    """Whether only the host itself can reach this listening address. '*' means all addresses."""
    return address != "*" and ipaddress.ip_address(address).is_loopback


def is_vpn(house: House, address: str) -> bool:
    """Whether this is an address in the VPN. False for text that is not an address, such as "*"."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in ipaddress.ip_network(network) for network in (house.vpn_v4, house.vpn_v6))


def is_peer_port(house: House, listener: Listener) -> bool:
    """Whether this is a port of tailscaled for other nodes (peerAPI), inside the VPN."""
    return listener.process == "tailscaled" and listener.proto == "tcp" and is_vpn(house, listener.address)


def misplaced(house: House, listeners: Iterable[Listener]) -> list[str]:
    """Sockets of the house's programs on ports or addresses that the access table does not give them, in words.

    This leaves out tailscaled's UDP sockets: tailscaled opens some for a moment when it measures the network.
    """
    everywhere = {
        "headscale": {("tcp", house.port("headscale")), ("udp", house.port("stun"))},
        "ollama": set(),
        "llama-server": set(),
    }
    wrong = []
    for listener in listeners:
        where, port = (listener.proto, listener.port), f"{listener.port}/{listener.proto}"
        if is_loopback(listener.address):
            continue
        if listener.port == house.port("ollama") and listener.proto == "tcp":
            if not is_vpn(house, listener.address):
                wrong.append(f"{listener.process} has Ollama's {port} on {listener.address}")
        elif listener.process == "tailscaled" and listener.proto == "tcp":
            if not is_vpn(house, listener.address):
                wrong.append(f"tailscaled has {port} on {listener.address}")
        elif listener.process in everywhere and where not in everywhere[listener.process]:
            wrong.append(f"{listener.process} has {port} on {listener.address}")
    return wrong


def missing(house: House, member: Member, listeners: Sequence[Listener], vpn: Sequence[str]) -> list[str]:
    """Rows that lead to `member` and on whose port no program listens, in words. `vpn`: its addresses in the VPN."""
    absent = []
    for row in house.access:
        if not leads_to(row, member):
            continue
        on = {each.address for each in listeners if (each.proto, each.port) == (row.protocol, row.port)}
        needed = {"127.0.0.1"}
        if row.over == "lan":
            needed = {next((address for address in member.addresses if "." in address), "127.0.0.1")}
        elif house.served_elsewhere(row, member):
            needed = set(served_at(row, vpn))
        # The kernel shows a socket on all addresses of both families as '*' or '::', and of IPv4 alone as 0.0.0.0.
        for address in sorted(needed):
            wide = {"*", "::"} if ":" in address else {"*", "::", "0.0.0.0"}
            if not on & (wide | {address}):
                absent.append(f"{row.port}/{row.protocol} ({row.id}) on {address}")
    return absent


def units_of(listener: Listener, house: House) -> tuple[str, ...]:
    """The units that may listen on this port by the access table; none when the port is not in the table."""
    rows = [row for row in house.access if (row.protocol, row.port) == (listener.proto, listener.port)]
    return tuple(unit for row in rows for unit in OWNERS.get(row.id, ()))


def declared(listener: Listener, house: House, member: Member) -> bool:
    """Whether the settings give this port to a program of people: in a row of their own, or in firewall_shut_off."""
    rows = (row for row in house.access if row.id not in OWNERS and leads_to(row, member))
    where = (listener.proto, listener.port)
    return f"{listener.port}/{listener.proto}" in member.shut_off or where in {(r.protocol, r.port) for r in rows}


def service_users(house: House, member: Member) -> tuple[str, ...]:
    """Accounts of a host that may begin no connection out of the house: those of its services, and a server's root."""
    return (*service_egress(house, member), *(("root",) if member.is_server else ()))


@dataclass(frozen=True)
class SecretFile:
    """A file with a secret, or a folder of such files, and the owner, group and mode that it must have."""

    path: str
    owner: str
    group: str
    mode: str

    @property
    def described(self) -> str:
        return f"{self.owner} {self.group} {self.mode}"


def program_units(member: Member) -> dict[str, str]:
    """Unit of a host -> the program of the house that the unit runs."""
    found = {"tailscaled.service": "tailscale"}
    if "coordinator" in member.roles:
        found["headscale.service"] = "headscale"
    if "model_hosts" in member.roles:
        found["ollama.service"] = "ollama"
    return found


def unit_accounts(member: Member) -> dict[str, str]:
    """Unit of a host -> the account of its main process."""
    return {unit: "root" if unit == "tailscaled.service" else name for unit, name in program_units(member).items()}


def secret_files(member: Member, *, folders: bool = False) -> tuple[SecretFile, ...]:
    """All files on a host that have a secret of the house. `folders`: also the folders whose files do."""
    found = [SecretFile("/var/lib/tailscale/tailscaled.state", "root", "root", "0600")]
    if "coordinator" in member.roles:
        found += [SecretFile("/var/lib/private-ai/ca/ca.key", "root", "root", "0600")]
        keys = ("noise_private.key", "derp_server_private.key", "db.sqlite")
        own = {"/etc/headscale/tls/key.pem": "0400", **{f"/var/lib/headscale/{name}": "0600" for name in keys}}
        found += [SecretFile(path, "headscale", "headscale", mode) for path, mode in own.items()]
    if "gateway" in member.roles:
        own = {"/etc/openclaw/token": "0400", **dict.fromkeys(gateway_keys(member), "0400")}
        # While a backup is made, it holds all conversations.
        own |= {ARCHIVES: "0700"} if folders else {}
        found += [SecretFile(path, "openclaw", "openclaw", mode) for path, mode in own.items()]
    return tuple(found)


@dataclass(frozen=True)
class Node:
    """What a node of the VPN must have: tags, or a user as its owner."""

    tags: frozenset[str]
    user: str


def nodes(house: House) -> dict[str, Node]:
    """Name -> node, for all hosts of the inventory and nothing else. A tagged node has no user."""
    return {member.name: Node(frozenset(member.tags), "" if member.tags else member.user) for member in house.members}


@dataclass(frozen=True)
class Forbidden:
    """A TCP service that the gateway's container must not reach. `witness` shows that the service is there: a place
    from which it answers, or "listener" for the list of listening sockets. Else no answer would prove nothing."""

    group: str
    address: str
    port: int
    witness: Witness


#: Groups of `forbidden_to_container`. Each is one check for each address family.
FORBIDDEN = ("internet", "coordinator", "host", "lan", "vpn")


def forbidden_to_container(
    house: House,
    gateway: Member,
    members: Sequence[Member],
    listeners: Mapping[str, Sequence[Listener]],
    vpn: Mapping[str, Sequence[str]],
    internet: Iterable[tuple[str, int]],
    doors: Iterable[str],
) -> tuple[Forbidden, ...]:
    """What a gateway's container must not reach: services of `members`, the gateway included, and of the internet.

    `listeners` and `vpn` (addresses in the VPN) have the host's name as key. `internet`: addresses and ports outside
    the house that answer. `doors`: addresses by which the container's network might lead to its own host (the
    container's router, aliases of the host).
    """
    ollama, own = house.port("ollama"), house.port("openclaw")
    found = [Forbidden("internet", address, port, "outside") for address, port in internet]
    for address in house.coordinator.addresses if house.coordinator in members else ():
        found += [
            Forbidden("coordinator", address, port, "outside")
            for port in sorted(open_to_lan(house, house.coordinator, "tcp", admin=False))
        ]
    tcp = {each.port for each in listeners.get(gateway.name, ()) if each.proto == "tcp"}
    # The container may reach its own port, and the port of an Ollama on the same host.
    for address in ("127.0.0.1", "::1", *doors):
        found += [Forbidden("host", address, port, "listener") for port in sorted(tcp - {own, ollama})]
    for member in members:
        for address in member.addresses:
            found += [
                Forbidden("lan", address, port, "controller")
                for port in sorted(
                    open_to_lan(house, member, "tcp", admin=True) - open_to_lan(house, member, "tcp", admin=False)
                )
            ]
        allowed = open_over_vpn(house, gateway, member) | ({own} if member == gateway else set())
        ports = {
            each.port
            for each in listeners.get(member.name, ())
            if each.proto == "tcp" and not is_loopback(each.address)
        }
        for address in vpn.get(member.name, ()):
            found += [Forbidden("vpn", address, port, "listener") for port in sorted(ports - allowed)]
    return tuple(found)
