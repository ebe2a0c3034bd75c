"""How a run gets root's rights on a host: it logs in as root, or it uses sudo or doas without a password."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from plan.engine.errors import SettingError, nearest
from plan.engine.terminal_text import line

#: Key in a host's data in the inventory -> what a command begins with. pyinfra defines these keys.
WAYS = {"_sudo": "sudo -n", "_doas": "doas -n"}
ACCEPTED = "a login as root, or '_sudo': True or '_doas': True with a sudo or doas that asks no password"


def wrong_words(data: Mapping[str, Any], where: str) -> Iterator[SettingError]:
    """Errors for keys of pyinfra in a host's data that are not in WAYS.

    pyinfra has more such keys: for a password, another user, another shell. The verification does not know them.
    """
    for word, value in data.items():
        if not isinstance(word, str) or not word.startswith("_"):
            continue
        if word not in WAYS:
            # The value may be a password, so the message does not show it.
            found, kind = ("something", word) if "password" in word else (value, word)
            yield SettingError(f"{where}: {kind}", found, ACCEPTED, _instead_of(word))
        elif not isinstance(value, bool):
            yield SettingError(f"{where}: {word}", value, "True or False", "correct it")


def both_ways(data: Mapping[str, Any], where: str) -> Iterator[SettingError]:
    """An error when a host's data has both keys of WAYS."""
    used = [word for word in WAYS if data.get(word)]
    if len(used) > 1:
        yield SettingError(f"{where}: {' and '.join(used)}", True, "one of them", "remove the other")


def _instead_of(word: str) -> str:
    if "password" in word:
        return "remove it, and have sudo ask no password: " + no_password("USER", "_sudo")
    return nearest(word, WAYS, "remove it, see docs/quick-start.md#3-ssh-keys")


def way(data: Mapping[str, Any]) -> str:
    """The key of WAYS in a host's data; "" for a login as root."""
    return next((word for word in WAYS if data.get(word)), "")


def refusal(name: str, data: Mapping[str, Any], status: int, said: str) -> SettingError | None:
    """The error when sudo or doas did not run a command as root; None when it did, or when something else failed.

    `status` and `said` are the command's exit status and standard error. sudo writes in the host's language, so we
    look only for its name. That is enough: no command that we run as root mentions sudo or doas itself. Its name is
    not in the words with which it refuses one command to a user who may run others.
    """
    word = way(data)
    if not status or not word:
        return None
    program = word.removeprefix("_")
    lines = [each.strip() for each in said.splitlines() if re.search(rf"\b{program}\b", each)]
    # The rest of that text is our whole script.
    lines += [f"{found[1]} ..." for found in re.finditer(r"^(Sorry, user \S+ is not allowed to execute) '", said, re.M)]
    if not lines:
        return None
    user = str(data.get("ssh_user") or "USER")
    if status == 127:
        step = f"as root on {name}: apt-get install {'opendoas' if word == '_doas' else 'sudo'}; or log in as root"
    elif any("tty" in each.lower() for each in lines):
        step = f"as root on {name}: echo 'Defaults:{user} !requiretty' > /etc/sudoers.d/{user}-tty"
    else:
        step = f"as root on {name}: {no_password(user, word)}"
    return SettingError(f"host {name}: {program}", line(lines[-1]), ACCEPTED, step)


def no_password(user: str, word: str) -> str:
    """The command by which root lets a user run commands as root without a password."""
    if word == "_doas":
        return f"echo 'permit nopass {user}' >> /etc/doas.conf"
    # sudo reads no file with a dot in its name.
    return f"echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{user.replace('.', '-')}"
