"""The lab's hosts in the form that inventory.py needs. These are only data, and the same whether the lab is up or
not."""

from __future__ import annotations

from typing import Any

from pyinfra.api.exceptions import PyinfraError

from lab.state import State, current_lab
from lab.topology import NUMBERS
from plan.engine.errors import SettingError


class WrongLab(SettingError, PyinfraError):
    """A SettingError that is also an error of pyinfra: pyinfra runs inventories, and shows its own errors without a
    traceback."""


def lab_host(name: str, **settings: object) -> tuple[str, dict[str, Any]]:
    """One inventory entry for a virtual host of the lab named by LAB (default `demo`), with `settings` of its own.

    The data are what pyinfra's SSH connector needs, and `lan_addresses` (IPv4, IPv6) and `admin_networks` (the
    controller's addresses, from which SSH comes). An inventory names the hosts of its own topology, so a host of any
    topology is accepted here, also if another topology is up. Raises SettingError for other names.
    """
    if name not in NUMBERS:
        raise WrongLab(
            "inventory: lab_host()",
            name,
            ", ".join(NUMBERS),
            "correct the name, or write your own host as (name, {'ssh_hostname': ...})",
        )
    try:
        lab = current_lab()
    except SettingError as error:
        raise WrongLab(error.setting, error.found, error.accepted, error.next_step) from error
    host = lab.place(name)
    state = State.of(lab.name)
    return name, {
        "ssh_hostname": str(host.v4),
        "ssh_user": "root",
        "ssh_key": str(state.ssh_key),
        "ssh_known_hosts_file": str(state.known_hosts),
        "ssh_strict_host_key_checking": "yes",
        # With the lab's own file, ~/.ssh/config is not read. It could contain, for example, jump hosts for 10.*.
        "ssh_config_file": str(state.ssh_config),
        "ssh_look_for_keys": False,
        "ssh_allow_agent": False,
        "lan_addresses": [str(host.v4), str(host.v6)],
        # The demo shows how a message reaches the model and how the answer comes back. A large model would only make
        # this slow.
        "ollama_model": "smallest",
        "admin_networks": [f"{lab.controller.v4}/32", f"{lab.controller.v6}/128"],
        **settings,
    }
