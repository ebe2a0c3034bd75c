"""The node of a host that leaves, and the keys with which somebody could still join."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from plan.devices.vpn_nodes import Key, Record, Stranger, Tidy, VpnNode


def host_leaving(
    name: str, nodes: Iterable[VpnNode], keys: Iterable[Key], record: Record, own: Collection[str], now: datetime
) -> Tidy:
    """What the removal of a host does to the VPN. `own`: its addresses there, as it says itself; none when it does not
    say. Then it is known by its name. Nodes of devices are left alone, whatever they call themselves."""
    waiting = {key for minted in record.values() for key in minted.keys}
    others = (node for node in nodes if node.key not in waiting)
    found = [node for node in others if ({*node.addresses} & {*own} if own else name in (node.name, node.given_name))]
    expire = tuple(sorted(key.id for key in keys if key.id not in waiting and key.live(now)))
    return Tidy(tuple(Stranger(node, "its host is removed") for node in found), expire, {}, None)


def known_names(nodes: Iterable[VpnNode], record: Record) -> tuple[str, ...]:
    """Names of nodes that are no device's."""
    waiting = {key for minted in record.values() for key in minted.keys}
    return tuple(sorted({node.given_name for node in nodes if node.key not in waiting}))
