"""The lab's hosts as inventory.py needs them. Data only: cheap, and the same whether the lab is up or not."""

from __future__ import annotations

from typing import Any

from pyinfra.api.exceptions import PyinfraError

from lab.state import State, current_lab
from lab.topology import NUMBERS
from plan.engine.errors import SettingError


class WrongLab(SettingError, PyinfraError):
    """pyinfra, which runs inventories, shows its own errors without a traceback."""


def lab_host(name: str, **settings: object) -> tuple[str, dict[str, Any]]:
    """One inventory entry for a virtual host of the lab named by LAB (default `demo`), with `settings` of its own.

    The data is what pyinfra's SSH connector wants, plus `lan_addresses` (IPv4, IPv6) and `admin_networks`
    (where SSH comes from: the controller, one address per family). An inventory names the hosts of its own
    topology, so any lab host is accepted here, whichever topology is up. Raises SettingError for other names.
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
        # The lab's own file also keeps the user's ~/.ssh/config (jump hosts for 10.*, say) out of it.
        "ssh_config_file": str(state.ssh_config),
        "ssh_look_for_keys": False,
        "ssh_allow_agent": False,
        "lan_addresses": [str(host.v4), str(host.v6)],
        # The demo shows the way of a message; a model that fills the machine would only make it long.
        "ollama_model": "smallest",
        "admin_networks": [f"{lab.controller.v4}/32", f"{lab.controller.v6}/128"],
        **settings,
    }
