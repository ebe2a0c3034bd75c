"""The node of a host that leaves, and the keys with which somebody could still join."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from plan.devices.vpn_nodes import Key, Record, Stranger, Tidy, VpnNode, device_keys, surplus_keys


def host_leaving(
    name: str, nodes: Iterable[VpnNode], keys: Iterable[Key], record: Record, own: Collection[str], now: datetime
) -> Tidy:
    """What the removal of a host does to the VPN. `own`: its addresses there, as it says itself; none when it does not
    say. Then it is known by its name. Nodes of devices are left alone, whatever they call themselves."""
    others = _no_device(nodes, record)
    found = [node for node in others if ({*node.addresses} & {*own} if own else name in (node.name, node.given_name))]
    going = tuple(Stranger(node, "its host is removed") for node in found)
    return Tidy(going, surplus_keys(keys, record, now), {}, None)


def known_names(nodes: Iterable[VpnNode], record: Record) -> tuple[str, ...]:
    """Names of nodes that are no device's."""
    return tuple(sorted({node.given_name for node in _no_device(nodes, record)}))


def _no_device(nodes: Iterable[VpnNode], record: Record) -> list[VpnNode]:
    devices = device_keys(record)
    return [node for node in nodes if node.key not in devices]
