"""Checks the names in a host's data and in group_data, and the values that SSH reads, before they are used."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from plan.engine.as_root import WAYS, wrong_words
from plan.engine.errors import SettingError, nearest, shown

#: The names that pyinfra's SSH connector reads, with the type that pyinfra needs.
SSH_TYPES: dict[str, type] = {
    **dict.fromkeys(("ssh_hostname", "ssh_user", "ssh_password", "ssh_key", "ssh_key_password"), str),
    **dict.fromkeys(("ssh_config_file", "ssh_known_hosts_file", "ssh_strict_host_key_checking"), str),
    **dict.fromkeys(("ssh_allow_agent", "ssh_look_for_keys", "ssh_forward_agent"), bool),
    **dict.fromkeys(("ssh_port", "ssh_connect_retries"), int),
    **dict.fromkeys(("ssh_connect_retry_min_delay", "ssh_connect_retry_max_delay"), float),
    "ssh_file_transfer_protocol": str,
    "ssh_paramiko_connect_kwargs": dict,
}
#: The names that most inventories use.
USUAL = ("ssh_hostname", "ssh_port", "ssh_user", "ssh_key")
#: Names for passwords that pyinfra would read, and what to do instead. The verification logs in with `ssh`, which takes
#: no password from a file, and an inventory often becomes part of a backup or of a repository.
PASSWORDS = {
    "ssh_password": "remove it, and give the host your key: ssh-copy-id USER@HOST asks for the password once",
    "ssh_key_password": "remove it, and give the key to your SSH agent: ssh-add PATH asks for the password once",
}
KEY_LOGIN = "a login with an SSH key, without a password in the inventory"
TYPES = {str: "a text in quotation marks", bool: "True or False", int: "a number", float: "a number", dict: "a mapping"}
PORTS = "a number from 1 to 65535, without quotation marks"
#: The forms in which people write where a host is: `ssh://anna@nas:22/`, `anna@192.0.2.5`, `[2001:db8::5]:2222`.
_DESTINATION = re.compile(
    r"(?:ssh://)?(?:(?P<user>[\w.-]{1,32})@)?(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[\w.-]{1,253}))"
    r"(?::(?P<port>[0-9]{1,5}))?/?",
    re.ASCII,
)
#: Other names that people write, also from Ansible and from OpenSSH's configuration, without _ -> our name for it.
MEANT = {
    **dict.fromkeys(("host", "hostname", "address", "ip", "ipaddress", "addr", "sshhost", "sship"), "ssh_hostname"),
    **dict.fromkeys(("port", "sshport"), "ssh_port"),
    **dict.fromkeys(("user", "username", "login", "sshuser", "sshusername", "remoteuser"), "ssh_user"),
    **dict.fromkeys(("password", "pass", "sshpass"), "ssh_password"),
    **dict.fromkeys(("key", "keyfile", "privatekey", "identityfile", "sshprivatekeyfile", "sshkeyfile"), "ssh_key"),
    **dict.fromkeys(("sudo", "become", "usesudo", "sshsudo"), "_sudo"),
    **dict.fromkeys(("doas", "usedoas"), "_doas"),
    **dict.fromkeys(("model", "llm"), "ollama_model"),
    **dict.fromkeys(("context", "contextlength"), "ollama_context"),
    **dict.fromkeys(("lanaddress", "lan", "addresses"), "lan_addresses"),
}


def wrong_data(
    data: Mapping[str, Any], where: str, settings: Collection[str], others: Collection[str]
) -> Iterator[SettingError]:
    """Errors for unknown names in `data`, and for values of the wrong type that SSH reads. `settings`: the names of our
    settings. `others`: the names that playbooks use. Names that begin with _ belong to pyinfra."""
    for key in data:
        name = _is_name(key)
        if name and key in SSH_TYPES:
            yield from _wrong_type(where, key, data[key])
        elif not name or not (key in settings or key in others or key.startswith("_")):
            yield _unknown(where, key, data[key], settings)
    yield from wrong_words(data, where)


def _is_name(key: object) -> bool:
    """Whether this can be the name of a setting."""
    return isinstance(key, str) and re.fullmatch(r"\w{1,60}", key, re.ASCII) is not None


def hides_the_address(data: Mapping[str, Any]) -> bool:
    """Whether somebody has written the host's address under a wrong name or in a wrong form. Then another error reports
    that."""
    return bool(destination(data.get("ssh_hostname"))) or any(
        meant(key) in ("ssh_hostname", "lan_addresses") for key in data if key not in SSH_TYPES
    )


def destination(value: object) -> dict[str, object]:
    """The data that say the same as an `ssh_hostname` with more in it than an address or a name: a user, a port,
    brackets, blanks. Empty when there is no more in it, or when it cannot be read."""
    found = _DESTINATION.fullmatch(value.strip()) if isinstance(value, str) else None
    host = found and (found["v6"] or found["host"])
    if not found or host == value:
        return {}
    said: dict[str, object] = {"ssh_hostname": host}
    if found["port"] and 0 < int(found["port"]) < 65536:
        said["ssh_port"] = int(found["port"])
    return said | ({"ssh_user": found["user"]} if found["user"] else {})


def meant(key: object) -> str:
    """Our name for what somebody probably means by another name; "" when we cannot tell."""
    if not isinstance(key, str):
        return ""
    return MEANT.get(re.sub(r"[^a-z]", "", key.lower().removeprefix("ansible_")), "")


def _unknown(where: str, key: object, value: object, settings: Collection[str]) -> SettingError:
    plain = _is_name(key)
    right = meant(key)
    if right in PASSWORDS:
        return SettingError(f"{where}: {key}", "something", KEY_LOGIN, PASSWORDS[right])
    names = (*settings, *(name for name in SSH_TYPES if name not in PASSWORDS), *WAYS)
    if right:
        names = (*USUAL, *WAYS) if right in (*USUAL, *WAYS) else (*settings,)
    elif plain and str(key).startswith("ssh"):
        names = (*(name for name in SSH_TYPES if name not in PASSWORDS),)
    return SettingError(
        f"{where}: {key if plain else shown(key)}",
        # The value may be a password, so the message does not show it.
        "something" if "pass" in str(key).lower() else value,
        f"one of {', '.join(names)}",
        f"write {right!r} instead" if right else nearest(key, names, "remove it or see docs/settings.md"),
    )


def _wrong_type(where: str, key: str, value: object) -> Iterator[SettingError]:
    if key in PASSWORDS:
        if value is not None:
            yield SettingError(f"{where}: {key}", "something", KEY_LOGIN, PASSWORDS[key])
        return
    kind = SSH_TYPES[key]
    plain = destination(value) if key == "ssh_hostname" else {}
    if plain:
        words = ", ".join(f"{name!r}: {each!r}" for name, each in plain.items())
        yield SettingError(f"{where}: {key}", value, "an address or a name and nothing else", f"write {words}")
    taken = isinstance(value, (int, float) if kind is float else kind)
    if isinstance(value, bool) and kind is not bool:
        taken = False
    if key == "ssh_port":
        if not taken or not isinstance(value, int) or not 0 < value < 65536:
            text = str(value).strip() if isinstance(value, str) else ""
            good = text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536
            yield SettingError(f"{where}: {key}", value, PORTS, f"write 'ssh_port': {int(text) if good else 22}")
    elif not taken:
        yield SettingError(f"{where}: {key}", value, TYPES[kind], "correct it, or leave it out")
