"""The list of all who are in the VPN or may come, as `playbooks/device_list.py` shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from plan.devices.vpn_nodes import Key, Record, Standing, VpnNode
from plan.house.house import House
from plan.openclaw.browsers import Pairing
from plan.tailscale.client_versions import is_cut_off

#: So few and so short that a line fits a terminal of 100 columns; the playbook's JSON has all.
HEAD = ("name", "what", "owner", "address", "last seen", "key ends", "Tailscale", "browsers")


@dataclass(frozen=True)
class Entry:
    """One line. `what` is host, device, or "not designated: WHY"; times are None for never."""

    name: str
    what: str
    owner: str
    kind: str
    addresses: tuple[str, ...]
    joined: datetime | None
    last_seen: datetime | None
    online: bool
    #: When the node's own key ends and it has to join again.
    expiry: datetime | None
    #: Until when a join key waits for a device that has not used it.
    key_waits: datetime | None
    #: Of Tailscale on it, as it says itself; "" when no gateway knows it.
    version: str
    #: Whether Tailscale on it is so new that it cannot reach the hosts, see plan/tailscale/client_versions.py.
    cut_off: bool
    browsers: tuple[Pairing, ...]


@dataclass(frozen=True)
class Roll:
    """All entries, and the browsers whose address is none of theirs."""

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
    """Hosts, then devices, joined or not, then all other nodes. `versions`: of Tailscale, by address in the VPN;
    `cut_off_from`: the one from which on a client cannot reach the hosts, "" for none."""
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
    """A day in this computer's own time zone; of today the hour."""
    if not when:
        return ""
    here = when.astimezone()
    return f"today {here:%H:%M}" if here.date() == now.astimezone().date() else f"{here:%Y-%m-%d}"
