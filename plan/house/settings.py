"""The names of all settings, with their defaults. plan/house/setting_values.py checks single values."""

from __future__ import annotations

from typing import Any

#: Every setting of group_data/all.py and of host data, with its default.
SETTINGS: dict[str, Any] = {
    "house_name": "house",
    "house_domain": "house.internal",
    "access_table": None,
    "admin_networks": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"],
    "firewall_shut_off": [],
    "artifacts_source": "auto",
    "headscale_users": ["people"],
    "headscale_devices": [],
    "headscale_node_expiry": "180d",
    "tailscale_user": None,
    "ollama_model": None,
    "ollama_context": None,
    "openclaw_users": None,
    "lan_addresses": None,
    "backup_recipients": [],
    "backup_every": "",
    "backup_folder": None,
    "backup_folder_mounted": False,
}
#: The settings that may differ from host to host. Each other setting has one value for the whole house.
HOST_SETTINGS = frozenset(
    {"lan_addresses", "firewall_shut_off", "tailscale_user", "ollama_model", "ollama_context", "openclaw_users"}
    | {"backup_folder", "backup_folder_mounted"}
)
#: The names that playbooks read with `--data`. They are not settings.
PLAYBOOK_DATA = frozenset(
    {"message", "device", "hours", "json", "now", "request", "pairings", "show", "missing"}
    | {"everything", "dead", "role", "on", "data"}
    | {"to", "from", "identity", "program"}
)
HOUSE_NAME = "group_data/all.py: house_name"
