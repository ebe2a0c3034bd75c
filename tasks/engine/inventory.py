"""Check the inventory as soon as it has been read: before pyinfra understands wrong forms in another way, and before
the run connects to any host."""

from __future__ import annotations

import base64
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pyinfra.api import Host, Inventory
from pyinfra.api.exceptions import PyinfraError

from operations.engine.pyinfra_inside import MAKE_INVENTORY, READ_FILE
from plan.engine.errors import SettingError, refuse
from plan.house.access_table import ROLES
from plan.house.groups import wrong_forms
from plan.house.inventory import HostEntry, build_house

T = TypeVar("T")


REPOSITORY = Path(__file__).resolve().parent.parent.parent


def check_first(file: str, code: Iterable[str]) -> None:
    """Have this run's inventory checked when it is read, if it is a file. `code` are the files that the run executes:
    if one of them belongs to this project, the hosts must be a house."""
    house = any(
        path == REPOSITORY / "deploy.py" or path.parent == REPOSITORY / "playbooks"
        for path in (Path(name).resolve() for name in code)
    )
    execute, make = READ_FILE.now(), MAKE_INVENTORY.now()

    def exec_file(filename: str, *arguments: Any, **named: Any) -> Any:
        found = execute(filename, *arguments, **named)
        if filename == file and found:
            checked(lambda: refuse(list(wrong_forms(found, Path(file).stem))))
        return found

    def make_inventory(*arguments: Any, **named: Any) -> Inventory:
        made: Inventory = make(*arguments, **named)
        if house and len(made):
            entries = entries_of(made, file)
            checked(lambda: refuse(list(unused_keys(entries))))
            checked(lambda: build_house(entries, groups_of(made, file)))
        return made

    READ_FILE.put(exec_file)
    MAKE_INVENTORY.put(make_inventory)


def checked(check: Callable[[], T]) -> T:
    """The result of `check`. If `check` refuses something, the run ends. Raises PyinfraError."""
    try:
        return check()
    except SettingError as error:
        if len(error.problems) > 1:
            raise PyinfraError(f"nothing was changed:\n    {error}") from error
        raise PyinfraError(f"{error} (nothing was changed)") from error


def unused_keys(entries: Iterable[HostEntry]) -> Iterator[SettingError]:
    """Errors for keys of the inventory that the verification could not use: those that others may read, because `ssh`
    does not use them, and those with a passphrase, because it has nobody to ask. pyinfra would use them, or ask."""
    told: set[Path] = set()
    for entry in entries:
        key = entry.data.get("ssh_key")
        try:
            path = Path(key).expanduser() if isinstance(key, str) else None
            if path is None or path in told or not path.is_file():
                continue
            seen, content = path.stat(), path.read_bytes()
        except (OSError, RuntimeError, ValueError):
            continue  # pyinfra reports a key that it cannot read
        told.add(path)
        where, quoted = f"host {entry.name} or group_data: ssh_key", shlex.quote(str(path))
        # The same rule as in OpenSSH (sshkey_perm_ok): it looks only at its user's own files.
        if seen.st_uid == os.getuid() and seen.st_mode & 0o077:
            yield SettingError(
                where,
                f"{path}, mode {seen.st_mode & 0o7777:04o}",
                "a private key that only you may read; ssh uses no other",
                f"chmod 600 {quoted}",
            )
        if has_passphrase(content):
            yield SettingError(
                where,
                f"{path}, which has a passphrase",
                "a key without one; a key with a passphrase only in your SSH agent",
                f"remove ssh_key from the inventory, and run: ssh-add {quoted}",
            )


def has_passphrase(key: bytes) -> bool:
    """Whether a private key is encrypted, in OpenSSH's own form or in PEM."""
    own = re.search(rb"BEGIN OPENSSH PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END", key)
    if own is None:
        return b"PRIVATE KEY" in key and b"ENCRYPTED" in key
    try:
        data = base64.b64decode(own[1])
    except ValueError:
        return False
    # PROTOCOL.key of OpenSSH: a magic word, then the name of the cipher with its length.
    return data.startswith(b"openssh-key-v1\0") and not data.startswith(b"openssh-key-v1\0\0\0\0\x04none")


def entries_of(found: Iterable[Host], file: str) -> list[HostEntry]:
    """The hosts of an inventory file by name, with groups and data, whatever --limit says."""
    own = _own_groups(file)
    return [
        HostEntry(each.name, tuple(group for group in each.groups if group not in own), _data(each))
        for each in sorted(found, key=lambda each: str(each.name))
    ]


def groups_of(found: Inventory, file: str) -> list[str]:
    """The groups that an inventory file defines."""
    return [group for group in found.groups if group not in _own_groups(file)]


def _own_groups(file: str) -> set[str]:
    """The groups that pyinfra itself adds: "all", and the name of the inventory file."""
    return {"all", Path(file).stem} - set(ROLES)


def _data(each: Host) -> dict[str, Any]:
    data: dict[str, Any] = each.data.dict()  # type: ignore[no-untyped-call]
    return data
