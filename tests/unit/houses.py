"""Houses for the unit tests, built from the project's own settings."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from plan.house.house import House
from plan.house.inventory import HostEntry, build_house

SETTINGS: dict[str, Any] = {
    name: value
    for name, value in runpy.run_path(str(Path(__file__).parent.parent.parent / "group_data" / "all.py")).items()
    if not name.startswith("_")
}


def entry(name: str, *groups: str, **data: Any) -> HostEntry:
    number = {"hub": 11, "home": 11, "gate": 12, "brain": 13, "laptop": 20, "desk": 21}.get(name, 99)
    addresses = [f"10.77.0.{number}", f"fd4c:4142:77::{number}"]
    return HostEntry(name, groups, {**SETTINGS, "lan_addresses": addresses, **data})


def single(**data: Any) -> House:
    entries = [entry("home", "coordinator", "gateway", "model_hosts", **data), entry("laptop", "clients", **data)]
    return build_house(entries, ("coordinator", "gateway", "model_hosts", "clients"))


def split(**data: Any) -> House:
    entries = [
        entry("brain", "model_hosts", **data),
        entry("gate", "gateway", **data),
        entry("hub", "coordinator", **data),
        entry("laptop", "clients", **data),
    ]
    return build_house(entries, ("coordinator", "gateway", "model_hosts", "clients"))


def pair(**data: Any) -> House:
    """A house with two people who each have a gateway."""
    data = {"headscale_users": ["anna", "ben"], **data}
    entries = [
        entry("desk", "clients", tailscale_user="ben", **data),
        entry("gate", "gateway", openclaw_users=["ben"], **data),
        entry("home", "coordinator", "gateway", "model_hosts", openclaw_users=["anna"], **data),
        entry("laptop", "clients", tailscale_user="anna", **data),
    ]
    return build_house(entries, ("coordinator", "gateway", "model_hosts", "clients"))
