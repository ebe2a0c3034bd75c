"""Public keys for which backups are encrypted: age's own, and SSH's ed25519 keys (age(1))."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from plan.engine.errors import SettingError

WHERE = "group_data/all.py: backup_recipients"
ACCEPTED = "public keys: 'age1...' as `make backup-key` prints it, or 'ssh-ed25519 AAAA...'"
#: Bech32 (BIP-173): its letters, and the numbers by which its checksum is made.
LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
#: Length of an X25519 key and of its checksum, in letters of five bits.
KEY_LETTERS, CHECK_LETTERS = 52, 6
#: What an ed25519 key of SSH begins with (RFC 8709), and how long it is.
ED25519, ED25519_BYTES = b"\0\0\0\x0bssh-ed25519\0\0\0\x20", 51


def recipients(value: Any) -> tuple[str, ...]:
    """Who can read the backups; nobody makes none. Comments behind SSH's keys are left out. Raises SettingError."""
    if not isinstance(value, list):
        raise SettingError(WHERE, _harmless(value), f"a list of {ACCEPTED}", "write for example ['age1...']")
    found: list[str] = []
    for each in value:
        key = " ".join(each.split()[:2]) if isinstance(each, str) and each.startswith("ssh-") else each
        if isinstance(key, str) and re.search(r"AGE-SECRET-KEY|PRIVATE KEY", key, re.IGNORECASE):
            step = "take it out, make another pair with `make backup-key`, and write the public key here"
            raise SettingError(WHERE, "a private key", f"{ACCEPTED}; the private one may be on no host", step)
        if not isinstance(key, str) or not (_is_age(key) or _is_ssh(key)):
            raise SettingError(
                WHERE, each, ACCEPTED, "copy the whole line of the public key; make one: make backup-key"
            )
        if key in found:
            raise SettingError(WHERE, key, "every key once", "remove one of the two")
        found.append(key)
    return tuple(found)


def need_recipients(found: tuple[str, ...]) -> None:
    """Raises SettingError where nobody could read a backup."""
    if not found:
        step = "make a pair of keys with `make backup-key`, and write the public one into the list; see docs/backup.md"
        raise SettingError(WHERE, [], f"at least one of {ACCEPTED}", step)


def _harmless(value: Any) -> Any:
    return "a private key" if re.search("AGE-SECRET-KEY|PRIVATE KEY", str(value), re.IGNORECASE) else value


def _is_age(key: str) -> bool:
    """Whether a text is an age key without a typing error."""
    form = re.fullmatch(rf"age1([{LETTERS}]{{{KEY_LETTERS + CHECK_LETTERS}}})", key)
    return form is not None and _checksum([*_prefix("age"), *(LETTERS.index(letter) for letter in form[1])]) == 1


def _prefix(text: str) -> list[int]:
    return [*(ord(letter) >> 5 for letter in text), 0, *(ord(letter) & 31 for letter in text)]


def _checksum(values: list[int]) -> int:
    found = 1
    for value in values:
        top = found >> 25
        found = (found & 0x1FFFFFF) << 5 ^ value
        for place, number in enumerate(GENERATOR):
            found ^= number if top >> place & 1 else 0
    return found


def _is_ssh(key: str) -> bool:
    """Whether a text is an ed25519 key of SSH. age takes RSA's as well, which are too long to be written here."""
    form = re.fullmatch(r"ssh-ed25519 ([A-Za-z0-9+/]+={0,2})", key)
    try:
        raw = base64.b64decode(form[1], validate=True) if form else b""
    except binascii.Error:
        return False
    return raw.startswith(ED25519) and len(raw) == ED25519_BYTES
