"""One house: its hosts with their roles and addresses, its settings, and who may talk to whom in it.

plan/house/inventory.py makes it from the inventory and group data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from plan.backup.places import KEPT
from plan.devices.declared import Device
from plan.engine.ip_addresses import VPN_V4, VPN_V6, is_address
from plan.house.access_table import ROLES, SERVERS, Row


@dataclass(frozen=True)
class Member:
    """One host of the inventory. `addresses`: its addresses on the local network, IPv4 before IPv6."""

    name: str
    roles: frozenset[str]
    addresses: tuple[str, ...]
    #: The Headscale user who owns the node, if the host is only a client.
    user: str
    #: Ports of other programs on the host, as "80/tcp". The owner accepts that the firewall closes them.
    shut_off: frozenset[str] = frozenset()
    #: The Headscale users who use this host as their gateway.
    openclaw_users: tuple[str, ...] = ()
    #: Whether the addresses come from lan_addresses; otherwise they come from ssh_hostname.
    lan_given: bool = True
    #: Where the host keeps the backups that it makes by itself, and whether that has to be another disk.
    backup_folder: str = KEPT
    backup_folder_mounted: bool = False

    @property
    def is_server(self) -> bool:
        return bool(self.roles & SERVERS)

    @property
    def tags(self) -> tuple[str, ...]:
        """The node's Headscale tags. A host that is only a client has no tags; it belongs to a user."""
        return tuple(tag(role, self.name) for role in ROLES if role in self.roles & SERVERS)


@dataclass(frozen=True)
class House:
    """The whole house, after its settings have been checked."""

    name: str
    domain: str
    members: tuple[Member, ...]
    access: tuple[Row, ...]
    admin_networks: tuple[str, ...]
    users: tuple[str, ...]
    devices: tuple[Device, ...]
    node_expiry: str
    artifacts_source: str
    #: Public keys for which backups are encrypted; none: no backups are made.
    backup_recipients: tuple[str, ...] = ()
    #: How often hosts make backups by themselves, a key of plan.backup.schedule.INTERVALS; "": never.
    backup_every: str = ""
    vpn_v4: str = VPN_V4
    vpn_v6: str = VPN_V6

    @property
    def vpn_domain(self) -> str:
        """The MagicDNS domain. The control server's name must not be below it, because Headscale refuses that."""
        return f"vpn.{self.domain}"

    @property
    def headscale_name(self) -> str:
        return f"headscale.{self.domain}"

    def vpn_name(self, member: Member) -> str:
        return f"{member.name}.{self.vpn_domain}"

    def with_role(self, role: str) -> tuple[Member, ...]:
        return tuple(member for member in self.members if role in member.roles)

    def callers(self, row: Row, target: Member) -> tuple[Member | Device, ...]:
        """The hosts and devices that a row over the VPN lets connect to `target`."""
        everybody: tuple[Member | Device, ...] = (*self.members, *self.devices)
        return tuple(each for each in everybody if self.lets_in(row, each, target))

    def served_elsewhere(self, row: Row, target: Member) -> bool:
        """Whether a row over the VPN lets any other host or device connect to `target`."""
        return any(caller != target for caller in self.callers(row, target))

    def lets_in(self, row: Row, caller: Member | Device, target: Member) -> bool:
        """Whether a row over the VPN lets `caller` connect to `target`. A person may connect only to their own
        gateway."""
        if not (calls(row, caller) and leads_to(row, target)):
            return False
        person = owner(caller)
        return row.id != "openclaw" or not person or self.gateway_of(person) == target

    @property
    def coordinator(self) -> Member:
        return self.with_role("coordinator")[0]

    @property
    def gateways(self) -> tuple[Member, ...]:
        return self.with_role("gateway")

    def gateway_of(self, user: str) -> Member:
        """The gateway of a Headscale user."""
        return next(member for member in self.gateways if user in member.openclaw_users)

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    def row(self, row_id: str) -> Row:
        """A row of the access table by its id."""
        return next(row for row in self.access if row.id == row_id)

    def port(self, row_id: str) -> int:
        """The port of a row of the access table, by the row's id."""
        return self.row(row_id).port


def tag(role: str, host: str) -> str:
    """The Headscale tag of a server's role. Each gateway has its own tag, so that the policy can let each person
    connect to one gateway only."""
    return {"coordinator": "tag:coordinator", "gateway": f"tag:gateway-{host}", "model_hosts": "tag:model-host"}[role]


def owner(each: Member | Device) -> str:
    """The Headscale user who owns a host or device; "" for a server, which belongs to nobody."""
    if isinstance(each, Device):
        return each.owner
    return "" if each.is_server else each.user


def calls(row: Row, each: Member | Device) -> bool:
    """Whether `from` of a row over the VPN includes this host or device, by its role or by its owner."""
    person = owner(each)
    if person and row.source in ("clients", f"{person}@"):
        return True
    return isinstance(each, Member) and row.source in each.roles


def leads_to(row: Row, member: Member) -> bool:
    """Whether a row opens a port on this host."""
    return row.target == "all" or row.target in member.roles


def row_for(member: Member, port: str, source: str = "lan", over: str = "lan") -> str:
    """For messages: the row to add so that the network can reach a port of a host. `port` as "80/tcp"."""
    role = next(role for role in ROLES if role in member.roles)
    return _row(source, role, port, over, f"{role}-{port}", "a program of my own")


def row_out(member: Member, address: str, port: str) -> str:
    """For messages: the row to add so that the kernel of a server may reach a port at an address."""
    role = next(role for role in ROLES if role in member.roles & SERVERS)
    return _row(role, address, port, "lan", f"{role}-{address if is_address(address) else 'out'}-{port}", "a way out")


def _row(source: str, target: str, port: str, over: str, words: str, why: str) -> str:
    label = re.sub("[^a-z0-9]", "-", words)
    row = {"id": label, "from": source, "to": target, "port": port, "over": over, "why": why}
    return f"add this row to access_table: {row}, see docs/access-table.md"
