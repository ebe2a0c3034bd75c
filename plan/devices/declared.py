"""The designated devices: people's devices that group_data names, and that are not deployed over SSH."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from plan.engine.errors import SettingError, nearest, refuse, tried
from plan.house.setting_values import label

SETTING = "group_data/all.py: headscale_devices"

#: The kinds of devices. templates/enrolment/KIND.html.j2 has the instructions for each kind.
Kind = Literal["ios", "android", "macos", "windows", "linux"]
KINDS: tuple[str, ...] = get_args(Kind)
KEYS = ("name", "owner", "kind")
EXAMPLE = "{'name': 'anna-phone', 'owner': 'anna', 'kind': 'ios'}"


@dataclass(frozen=True)
class Device:
    """A designated device. `name`: its name in the VPN. `owner`: a Headscale user."""

    name: str
    owner: str
    kind: Kind


def parse_devices(raw: object, users: Sequence[str], hosts: Sequence[str]) -> tuple[Device, ...]:
    """The devices of the setting. `hosts`: names that hosts already have. Raises one SettingError with all errors; of
    each device it has the first."""
    if not isinstance(raw, list):
        raise SettingError(SETTING, raw, f"a list of devices such as {EXAMPLE}", "use [] for none")
    devices: list[Device] = []
    problems: list[SettingError] = []
    for number, entry in enumerate(raw, 1):
        device = tried(problems, None, _device, number, entry, users)
        where = f"{SETTING} entry {number} name"
        if device and device.name in hosts:
            problems.append(
                SettingError(
                    where,
                    device.name,
                    "a name that no host of the inventory has",
                    "rename the device, or leave it out: a host joins by the deployment",
                )
            )
        elif device and device.name in [each.name for each in devices]:
            problems.append(SettingError(where, device.name, "every name once", "rename one of the two devices"))
        elif device:
            devices.append(device)
    refuse(problems)
    return tuple(devices)


def _device(number: int, entry: object, users: Sequence[str]) -> Device:
    where = f"{SETTING} entry {number}"
    if not isinstance(entry, Mapping):
        raise SettingError(where, entry, f"a mapping such as {EXAMPLE}", "correct it")
    for key in entry:
        if key not in KEYS:
            raise SettingError(
                f"{where} key", key, f"one of {', '.join(KEYS)}", nearest(key, KEYS, "see docs/devices.md")
            )
    for key in KEYS:
        if key not in entry:
            raise SettingError(f"{where} {key}", None, f"a value for {key!r}", f"write it as in {EXAMPLE}")
    name, owner, kind = label(f"{where} name", entry["name"]), entry["owner"], entry["kind"]
    where = f"{where} ({name})"
    if owner not in users:
        raise SettingError(
            f"{where} owner",
            owner,
            f"one of headscale_users: {', '.join(users)}",
            nearest(owner, users, "add the person to headscale_users"),
        )
    if kind not in KINDS:
        raise SettingError(f"{where} kind", kind, f"one of {', '.join(KINDS)}", nearest(kind, KINDS, "correct it"))
    return Device(name, str(owner), cast(Kind, kind))
