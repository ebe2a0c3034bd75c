"""Decides which node of the VPN is which host or device, and which is neither. Phones choose their own names, so we
recognise a device by the pre-auth key that was made for it. The coordinator keeps a record of these keys."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from plan.devices.declared import Device
from plan.engine.errors import STRANGE, shown
from plan.engine.ip_addresses import node_addresses
from plan.engine.terminal_text import line
from plan.house.house import House, Member
from plan.house.setting_values import is_label

#: The record on the coordinator. Only root may read it. A run writes a new file beside it and renames that.
RECORD = "/var/lib/private-ai/devices.json"


@dataclass(frozen=True)
class VpnNode:
    """A node in Headscale. `name`: the name that the node gives itself. `given_name`: its name in the VPN.

    A device can give itself any name, so both names are made harmless to a terminal.
    """

    id: int
    name: str
    given_name: str
    #: "" for a node with tags, which belongs to nobody.
    user: str
    tags: frozenset[str]
    addresses: tuple[str, ...]
    #: The number of the pre-auth key with which the node joined.
    key: int | None
    joined: datetime | None
    last_seen: datetime | None
    online: bool
    expiry: datetime | None

    @property
    def owner(self) -> str:
        return ", ".join(sorted(self.tags)) or self.user

    def expired(self, now: datetime) -> bool:
        return self.expiry is not None and self.expiry <= now


@dataclass(frozen=True)
class Key:
    """A pre-auth key without its secret."""

    id: int
    ends: datetime | None
    #: A single-use key that was used.
    spent: bool

    def live(self, now: datetime) -> bool:
        """Whether somebody could still join with this key."""
        return not self.spent and (self.ends is None or self.ends > now)


@dataclass(frozen=True)
class Minted:
    """The keys that were made for a device, the latest last. `minted`: when the latest one was made."""

    owner: str
    keys: tuple[int, ...]
    minted: str


Record = Mapping[str, Minted]


@dataclass(frozen=True)
class Stranger:
    """A node that is neither a host of the inventory nor a device of the settings."""

    node: VpnNode
    why: str
    #: The name of the device for which its key was made; "" if it joined in another way.
    device: str = ""


@dataclass(frozen=True)
class Standing:
    """All nodes, sorted into hosts, devices and strangers. `unsure`: nodes that may be a host which was not asked for
    its addresses."""

    hosts: Mapping[str, VpnNode]
    devices: Mapping[str, VpnNode]
    strangers: tuple[Stranger, ...]
    unsure: tuple[VpnNode, ...]

    @property
    def renames(self) -> dict[int, str]:
        """Hosts and devices whose node has another name in the VPN: number of the node -> its right name."""
        known = {**self.hosts, **self.devices}
        return {node.id: name for name, node in known.items() if node.given_name != name}


def moment(value: object) -> datetime | None:
    """A time from Headscale's output: an object with seconds (0.29) or a text (0.30). None when there is no time, which
    Headscale writes as a number below 0 or as the year 1."""
    if isinstance(value, Mapping):
        seconds = int(value.get("seconds", 0))
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    if isinstance(value, str) and value:
        found = datetime.fromisoformat(value)
        if found.utcoffset() is None:
            raise ValueError(f"{value!r} is a time without its zone")
        return found if found.year > 1 else None
    return None


def node_of(raw: Mapping[str, Any]) -> VpnNode:
    """A node from Headscale's JSON, which leaves out false and empty fields. Raises the exceptions of STRANGE."""
    tags = frozenset(map(line, raw.get("tags") or ()))
    key = (raw.get("pre_auth_key") or {}).get("id")
    return VpnNode(
        id=int(raw["id"]),
        name=line(raw.get("name")),
        given_name=line(raw["given_name"]),
        user="" if tags else line((raw.get("user") or {}).get("name")),
        tags=tags,
        addresses=node_addresses(raw.get("ip_addresses")),
        key=int(key) if key else None,
        joined=moment(raw.get("created_at")),
        last_seen=moment(raw.get("last_seen")),
        online=bool(raw.get("online")),
        expiry=moment(raw.get("expiry")),
    )


def key_of(raw: Mapping[str, Any]) -> Key:
    """A pre-auth key from Headscale's JSON. Raises the exceptions of STRANGE."""
    spent = bool(raw.get("used")) and not raw.get("reusable")
    return Key(int(raw["id"]), moment(raw.get("expiration")), spent)


def parse_record(text: str) -> dict[str, Minted]:
    """The record, from the text of its file; empty when there is none yet. Raises ValueError for text of another
    form."""
    try:
        raw = json.loads(text) if text.strip() else {}
        # These names become names of files on the controller.
        if strange := [name for name in raw if not is_label(name)]:
            raise ValueError(f"{strange[0]!r} is not the name of a device")
        return {
            str(name): Minted(str(each["owner"]), tuple(int(key) for key in each["keys"]), str(each["minted"]))
            for name, each in raw.items()
        }
    except STRANGE as error:
        raise ValueError(f"{RECORD} is not a record of devices: {shown(error)}") from error


def record_text(record: Record) -> str:
    """The text for the file of the record."""
    raw = {
        name: {"owner": each.owner, "keys": list(each.keys), "minted": each.minted}
        for name, each in sorted(record.items())
    }
    return json.dumps(raw, indent=2) + "\n"


def with_key(record: Record, device: Device, key: int, now: datetime) -> dict[str, Minted]:
    """The record after a key was made for a device. If the device had another owner before, the old keys are
    removed."""
    old = record.get(device.name)
    keys = old.keys if old and old.owner == device.owner else ()
    return {**record, device.name: Minted(device.owner, (*keys, key), now.isoformat(timespec="seconds"))}


def standing(
    house: House, nodes: Iterable[VpnNode], record: Record, own: Mapping[str, Collection[str]] | None = None
) -> Standing:
    """Sorts the nodes. `own`: name of each host that was asked -> its addresses in the VPN.

    A host's node is the one with the host's addresses, or with its name if the host was not asked. If a device has
    several nodes, the one with the latest key counts.
    """
    owners = {device.name: device.owner for device in house.devices}
    by_key = {key: name for name, minted in record.items() for key in minted.keys}
    hosts, devices = dict[str, VpnNode](), dict[str, VpnNode]()
    strangers, unsure = list[Stranger](), list[VpnNode]()
    # The latest node first: sorted by key, then by the node's number.
    for node in sorted(nodes, key=lambda node: (node.key or 0, node.id), reverse=True):
        name = by_key.get(node.key or 0, "")
        if name:
            why = _not_the_device(node, name, owners.get(name), devices)
            if why:
                strangers.append(Stranger(node, why, name))
            else:
                devices[name] = node
            continue
        member = _host_of(node, house.members, own or {})
        if member is None:
            why = next(
                (
                    f"it calls itself {each.name}, which has other addresses"
                    for each in house.members
                    if each.name in (node.name, node.given_name)
                ),
                "it is neither a host of the inventory nor in headscale_devices",
            )
            strangers.append(Stranger(node, why))
        elif (own and member.name in own) or node.given_name == member.name:
            hosts[member.name] = node
        else:
            unsure.append(node)
    ordered = tuple(sorted(strangers, key=lambda each: each.node.id))
    return Standing(hosts, devices, ordered, tuple(unsure))


def _not_the_device(node: VpnNode, name: str, owner: str | None, found: Collection[str]) -> str:
    if owner is None:
        return f"device {name} is not in headscale_devices any more"
    if node.tags or node.user != owner:
        return f"device {name} belongs to {owner}, this node to {node.owner}"
    return f"an older node of device {name}" if name in found else ""


def _host_of(node: VpnNode, members: Sequence[Member], own: Mapping[str, Collection[str]]) -> Member | None:
    for member in members:
        if member.name in own:
            if set(node.addresses) & set(own[member.name]):
                return member
        elif member.name in (node.name, node.given_name):
            return member
    return None


@dataclass(frozen=True)
class Tidy:
    """What a run has to change: nodes to remove, keys to expire, nodes to rename (number -> name), and the new
    record."""

    remove: tuple[Stranger, ...]
    expire: tuple[int, ...]
    rename: Mapping[int, str]
    #: None: the record does not change.
    record: Record | None

    def __bool__(self) -> bool:
        return bool(self.remove or self.expire or self.rename or self.record is not None)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of the nodes that are removed."""
        return tuple(address for each in self.remove for address in each.node.addresses)

    @property
    def announced(self) -> list[str]:
        """What the run is going to do, one line for each node and key."""
        return [
            *(
                f"removes node {each.node.given_name} (number {each.node.id}, of {each.node.owner}, "
                f"{', '.join(each.node.addresses)}): {each.why}"
                for each in self.remove
            ),
            *(f"ends key {number}, which could still let somebody in" for number in self.expire),
            *(f"renames node {number} to {name}" for number, name in self.rename.items()),
        ]


def tidy(house: House, found: Standing, keys: Iterable[Key], record: Record, now: datetime) -> Tidy:
    """What has to change so that the nodes agree with the inventory and the settings. All keys expire, except those
    that wait for a designated device."""
    owners = {device.name: device.owner for device in house.devices}
    kept = {name: minted for name, minted in record.items() if owners.get(name) == minted.owner}
    return Tidy(found.strangers, surplus_keys(keys, kept, now), found.renames, None if kept == record else kept)


def device_keys(record: Record) -> set[int]:
    """The numbers of all keys that were made for devices."""
    return {key for minted in record.values() for key in minted.keys}


def surplus_keys(keys: Iterable[Key], record: Record, now: datetime) -> tuple[int, ...]:
    """The numbers of keys that could still let somebody in, and were not made for a device of the record."""
    devices = device_keys(record)
    return tuple(sorted(key.id for key in keys if key.id not in devices and key.live(now)))


def leaving(name: str, nodes: Iterable[VpnNode], keys: Iterable[Key], record: Record, now: datetime) -> Tidy:
    """What has to change to remove one device: every node that joined with one of its keys, and all these keys."""
    own = record[name].keys if name in record else ()
    gone = tuple(Stranger(node, "it is removed", name) for node in nodes if node.key in own)
    expire = tuple(key.id for key in keys if key.id in own and key.live(now))
    return Tidy(gone, expire, {}, {other: each for other, each in record.items() if other != name} if own else None)
