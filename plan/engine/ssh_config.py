"""Checks words from the inventory and from this computer before they go into an SSH configuration (ssh_config(5)).

A line break in such a word would begin another option, for example ProxyCommand, which runs a program.
"""

from __future__ import annotations

import re
import socket

from plan.engine.errors import SettingError


def host_word(setting: str, value: object) -> str:
    """A name or address to which ssh connects. Refuses options and patterns. Raises SettingError."""
    accepted = "a host name or an address"
    word = _word(setting, value, r"[A-Za-z0-9_:][A-Za-z0-9._:%-]{0,254}", accepted)
    if _is_short_address(word):
        raise SettingError(
            setting,
            value,
            accepted,
            "write an IPv4 address as four numbers; ssh reads a shorter form as another address",
        )
    return word


def _is_short_address(word: str) -> bool:
    """Whether this is a short form of an IPv4 address: ssh reads 22 as 0.0.0.22, and 127.1 as 127.0.0.1."""
    try:
        return socket.inet_ntoa(socket.inet_aton(word)) != word
    except OSError:
        return False


def user_word(setting: str, value: object) -> str:
    """The name of an account; also one from a directory service, such as anna@example. Raises SettingError."""
    return _word(setting, value, r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,254}", "letters, digits and . _ @ -")


def port_word(setting: str, value: object) -> str:
    """A port's number. Raises SettingError."""
    accepted = "a number from 1 to 65535"
    text = str(value) if type(value) is int else value
    if int(_word(setting, text, r"[1-9][0-9]{0,4}", accepted)) > 65535:
        raise SettingError(setting, value, accepted, "correct it")
    return str(text)


def path_word(setting: str, value: object) -> str:
    """The path of a file, in quotes. Raises SettingError for a path that not every version of ssh can read."""
    # ssh reads ~NAME as the home folder of that account, and ends with an error when there is no such account.
    if not isinstance(value, str) or not value.isprintable() or not value or re.search(r"%|\$\{|^~(?!/)", value):
        accepted = "a path without %, ${ and ~NAME, on one line"
        raise SettingError(setting, value, accepted, "move the file, or link to it")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def include_word(setting: str, value: object) -> str:
    """The path of one file for the option Include, which reads patterns: their characters are escaped. Raises
    SettingError."""
    path_word(setting, value)
    return path_word(setting, re.sub(r"([*?\[\]\\])", r"\\\1", str(value)))


def _word(setting: str, value: object, form: str, accepted: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(form, value):
        raise SettingError(setting, value, accepted, "correct it")
    return value
