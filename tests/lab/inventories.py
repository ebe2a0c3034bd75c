"""Inventory files with a lab's hosts and the settings of a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Topology -> group -> hosts, the same as in inventory.py and inventory_split.py.
GROUPS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "single": {"coordinator": ["home"], "gateway": ["home"], "model_hosts": ["home"], "clients": ["laptop"]},
    "split": {"coordinator": ["hub"], "gateway": ["gate"], "model_hosts": ["brain"], "clients": ["laptop"]},
}


def write_inventory(
    folder: Path,
    groups: Mapping[str, Sequence[str]],
    settings: Mapping[str, Any],
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Write an inventory file into `folder`, and return its path. All its hosts have `settings`; `own` has additional
    settings of single hosts, by name."""
    data = {name: {**settings, **(own or {}).get(name, {})} for names in groups.values() for name in names}
    lines = ["from lab.hosts import lab_host as _lab_host", f"_data = {data!r}"]
    for group, names in groups.items():
        hosts = ", ".join(f"_lab_host({name!r}, **_data[{name!r}])" for name in names)
        lines.append(f"{group} = [{hosts}]")
    file = folder / "inventory.py"
    file.write_text("\n".join(lines) + "\n")
    return str(file)
