"""Devices: the only nodes of the VPN are the hosts and the designated devices."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import NoReturn

from pyinfra import host, inventory, logger

from facts.ca import CaCertificate, CaOther
from facts.headscale import Headscale
from operations.devices.nodes import nodes, untidy
from operations.engine.answers import ask
from operations.engine.run import this_run
from operations.engine.run_on_host import RemoteError, run_on
from plan.devices.declared import SETTING, Device
from plan.engine.errors import SettingError, nearest
from plan.house.house import House
from tasks.engine.hosts import This
from tasks.engine.house import WrongInput


def deploy(this: This) -> None:
    """On the coordinator, after the hosts have joined: remove all other nodes. While planning, warn about each of
    them."""
    for line in untidy(this.house, ask(host, Headscale)).announced:
        logger.warning(f"{host.print_prefix}{line}")
    nodes(name="Devices | Nodes of the VPN", house=this.house)


def named_device(house: House, others: Iterable[str] = ()) -> str:
    """The name from `--data device=NAME`. It must be the name of a designated device, or one of `others`.

    Raises WrongInput.
    """
    name = this_run().command_line.data.get("device")
    known = sorted({device.name for device in house.devices} | set(others))
    accepted = f"the name of a device: {', '.join(known) or 'there is none'}"
    if name is None:
        refuse(SettingError("--data device", name, accepted, "add --data device=NAME"))
    if name not in known:
        add = f"add it to {SETTING} first, or see docs/devices.md"
        refuse(SettingError("--data device", name, accepted, nearest(name, known, add)))
    return name


def yes_or_no(name: str, otherwise: str) -> bool:
    """Whether `--data NAME=true` was given. `otherwise` is the next step in the error message. Raises WrongInput."""
    given = host.data.get(name, False)
    if not isinstance(given, bool):
        refuse(SettingError(f"--data {name}", given, "true or false", otherwise))
    return given


def hours() -> int:
    """For how many hours a key is valid, from `--data hours=NUMBER`. Raises WrongInput."""
    given = host.data.get("hours", 1)
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= 24:
        refuse(SettingError("--data hours", given, "a whole number from 1 to 24", "leave it out for 1"))
    return int(given)


def refuse(error: SettingError) -> NoReturn:
    """Raise the error, and add that nothing was changed."""
    raise WrongInput(f"{error} (nothing was changed)") from error


def ready(house: House, device: Device, token: str) -> None:
    """Refuse a device that cannot be added yet, before the run asks whether to go on. Call it for the coordinator.
    `token` is the file on the gateway of the device's owner. Raises WrongInput."""
    known, gateway = host.get_fact(Headscale), house.gateway_of(device.owner).name
    missing = ""
    if not host.get_fact(CaCertificate):
        missing = "the house has no CA"
    elif host.get_fact(CaOther).stage == "new":
        step = "go on with playbooks/ca_rotate.py, see docs/rotation.md, then run this again"
        refuse(SettingError(f"device {device.name}", "the house is getting a new CA", "one CA on the page", step))
    elif device.owner not in known.users:
        missing = f"Headscale has no user {device.owner}" if known.answers else "Headscale does not answer"
    else:
        try:
            if run_on(inventory.get_host(gateway), f"test -s {shlex.quote(token)} || echo none"):
                missing = f"its gateway {gateway} is not deployed"
        except RemoteError as error:
            missing = str(error)
    if missing:
        step = "run the deployment, also of the gateway, then run this again"
        refuse(SettingError(f"device {device.name}", missing, "a device of a house that has been deployed", step))


def designated(house: House, name: str) -> Device:
    """The device of that name."""
    return next(device for device in house.devices if device.name == name)
