"""The list of all hosts, devices and other nodes, joined or not. `playbooks/device_list.py` shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from plan.devices.vpn_nodes import Key, Record, Standing, VpnNode
from plan.house.house import House
from plan.openclaw.browsers import Pairing
from plan.tailscale.client_versions import is_cut_off

#: The columns of the table. There are few, so that a row fits a terminal of 100 columns. The playbook's JSON has all
#: fields.
HEAD = ("name", "what", "owner", "address", "last seen", "key ends", "Tailscale", "browsers")


@dataclass(frozen=True)
class Entry:
    """One row. `what`: "host", "device", or "not designated: WHY". A time is None for never."""

    name: str
    what: str
    owner: str
    kind: str
    addresses: tuple[str, ...]
    joined: datetime | None
    last_seen: datetime | None
    online: bool
    #: When the node's own key expires. Then the node has to join again.
    expiry: datetime | None
    #: Until when the device can use a join key that was made for it; None without such a key.
    key_waits: datetime | None
    #: The version of Tailscale that the node tells; "" when no gateway knows it.
    version: str
    #: Whether its Tailscale is too new to reach the hosts, see plan/tailscale/client_versions.py.
    cut_off: bool
    browsers: tuple[Pairing, ...]


@dataclass(frozen=True)
class Roll:
    """All entries. `others`: browsers whose address belongs to no entry."""

    nodes: tuple[Entry, ...]
    others: tuple[Pairing, ...]


def entries(
    house: House,
    found: Standing,
    keys: Iterable[Key],
    record: Record,
    browsers: Iterable[Pairing],
    now: datetime,
    versions: Mapping[str, str] | None = None,
    cut_off_from: str = "",
) -> Roll:
    """Hosts, then devices, joined or not, then all other nodes. `versions`: address in the VPN -> version of Tailscale.
    `cut_off_from`: the first version with which a client cannot reach the hosts, "" for none."""
    browsers = tuple(browsers)
    waiting = {key.id: key.ends for key in keys if key.live(now)}

    def entry(name: str, what: str, owner: str, kind: str, node: VpnNode | None) -> Entry:
        addresses = node.addresses if node else ()
        minted = record[name].keys if kind and name in record else ()
        version = next((versions[each] for each in addresses if each in versions), "") if versions else ""
        return Entry(
            name=name,
            what=what,
            owner=owner,
            kind=kind,
            addresses=addresses,
            joined=node.joined if node else None,
            last_seen=node.last_seen if node else None,
            online=bool(node and node.online),
            expiry=node.expiry if node else None,
            key_waits=next((waiting[key] for key in reversed(minted) if key in waiting), None),
            version=version,
            cut_off=is_cut_off(version, cut_off_from),
            browsers=tuple(each for each in browsers if each.address in addresses),
        )

    lines = [
        entry(
            member.name,
            "host",
            ", ".join(member.tags) or member.user,
            "",
            found.hosts.get(member.name),
        )
        for member in house.members
    ]
    lines += [
        entry(device.name, "device", device.owner, device.kind, found.devices.get(device.name))
        for device in house.devices
    ]
    lines += [
        entry(each.node.given_name, f"not designated: {each.why}", each.node.owner, "", each.node)
        for each in found.strangers
    ]
    lines += [
        entry(node.given_name, "not designated: perhaps a host that was not asked", node.owner, "", node)
        for node in found.unsure
    ]
    placed = {address for line in lines for address in line.addresses}
    return Roll(tuple(lines), tuple(each for each in browsers if each.address not in placed))


def table_rows(roll: Roll, now: datetime) -> list[tuple[str, ...]]:
    """The head of the table and a row for each entry, in words. Times in this computer's own time zone."""
    return [HEAD, *(_row(each, now) for each in roll.nodes)]


def _row(each: Entry, now: datetime) -> tuple[str, ...]:
    seen = "now" if each.online else _day(each.last_seen, now)
    if not each.addresses:
        seen = f"not joined; key until {each.key_waits.astimezone():%H:%M}" if each.key_waits else "not joined"
    ends = _day(each.expiry, now) if each.expiry else "never" if each.addresses else ""
    if each.expiry and each.expiry <= now:
        ends = f"ended {ends}"
    elif each.expiry and each.expiry <= now + timedelta(days=14):
        ends = f"soon: {ends}"
    return (
        each.name,
        each.kind or each.what.partition(":")[0],
        each.owner.replace("tag:", "").replace(", ", "\n"),
        next(iter(each.addresses), ""),
        seen,
        ends,
        f"too new: {each.version}" if each.cut_off else each.version,
        "\n".join(f"{browser.name}{' (waits)' if browser.waits else ''}" for browser in each.browsers),
    )


def _day(when: datetime | None, now: datetime) -> str:
    """The date in this computer's time zone. For today: the time."""
    if not when:
        return ""
    here = when.astimezone()
    return f"today {here:%H:%M}" if here.date() == now.astimezone().date() else f"{here:%Y-%m-%d}"
