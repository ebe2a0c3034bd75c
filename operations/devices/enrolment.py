"""The key and the enrolment page of a device."""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

import click
from pyinfra import inventory, logger
from pyinfra.api import FunctionCommand, Host, State, operation

from facts.ca import CaCertificate
from facts.headscale import Headscale
from operations.devices.nodes import PAGES, expire_lines, record_script
from operations.engine.one_run import hold
from operations.engine.run_on_host import RemoteError, run_on
from plan.devices.declared import Device
from plan.devices.enrolment_page import Enrolment, fingerprint, page
from plan.devices.vpn_nodes import key_of, with_key
from plan.engine.errors import STRANGE
from plan.house.house import House, Member


@operation()
def enrolled(
    house: House, device: Device, hours: int, token: str, too_new: str
) -> Generator[FunctionCommand, None, None]:
    """Own the one valid key of a device, and the device's page on the controller. Only root and the account that runs
    pyinfra can read the page.

    This host, the coordinator, makes the key. The key is written into the page and nowhere else. An earlier key that
    nobody has used is expired. `token` is the file with OpenClaw's token on the gateway of the device's owner.
    `too_new` is explained in plan/devices/enrolment_page.py. Each run makes a new key.
    """
    hold()
    yield FunctionCommand(_enrol, (house, device, hours, house.gateway_of(device.owner), token, too_new), {})


def _enrol(
    state: State, host: Host, house: House, device: Device, hours: int, gateway: Member, token: str, too_new: str
) -> bool:
    try:
        known, authority = host.get_fact(Headscale), host.get_fact(CaCertificate)
        if device.owner not in known.users or not authority:
            missing = f"Headscale has no user {device.owner}" if authority else "the house has no CA"
            raise RemoteError(f"{missing}. Next: run the deployment, then run this again")
        secret = run_on(inventory.get_host(gateway.name), f"cat {shlex.quote(token)}").strip()
        now = datetime.now(UTC)
        made = json.loads(
            run_on(
                host,
                f"headscale preauthkeys create --user {known.users[device.owner]} --expiration {hours}h -o json",
            )
        )
        ends = key_of(made).ends
        if not re.fullmatch(r"[A-Za-z0-9_-]+", made["key"]):
            # People paste commands that contain the key, so it must not contain characters that a shell interprets.
            raise RemoteError("Headscale made a key in an unknown form. Next: see `headscale preauthkeys list`")
        # The record is written before the page: a key that somebody can use must be in the record.
        own = known.record[device.name].keys if device.name in known.record else ()
        earlier = [key.id for key in known.keys if key.id in own and key.live(now)]
        record = with_key(known.record, device, int(made["id"]), now)
        run_on(host, "\n".join(["set -e", *expire_lines(earlier), record_script(record)]))
        text = page(
            Enrolment(
                device=device.name,
                owner=device.owner,
                kind=device.kind,
                house=house.name,
                control_url=f"https://{house.headscale_name}:{house.port('headscale')}",
                control_addresses=house.coordinator.addresses,
                key=made["key"],
                # In local time, because people read it.
                key_ends=(ends or now).astimezone(),
                ca_pem=authority,
                ui_url=f"https://{house.vpn_name(gateway)}:{house.port('openclaw')}/",
                token=secret,
                too_new=too_new,
            )
        )
        written = write_page(device.name, text)
    except (RemoteError, OSError, *STRANGE) as error:
        logger.error(f"{host.print_prefix}no page for {device.name}: {error}")
        return False
    click.echo(
        f"\n    {written}: the page for {device.name}, with a key that is valid once"
        f"{f' and until {ends.astimezone():%Y-%m-%d %H:%M %Z}' if ends else ''}\n"
        f"    the CA's fingerprint (SHA-256) is {fingerprint(authority)}\n"
        "    The page contains secrets: hand it over in person, and delete it when the device has joined.\n"
        "    Next: follow the page on the device, then approve its browser (docs/devices.md).\n",
        err=True,
    )
    return True


def write_page(name: str, text: str) -> Path:
    """Write a page to a file that only its owner can read. If writing fails, no part of the page stays."""
    PAGES.mkdir(mode=0o700, exist_ok=True)
    PAGES.chmod(0o700)
    file, beside = tempfile.mkstemp(dir=PAGES, prefix=f".{name}.")
    try:
        with os.fdopen(file, "w", encoding="utf-8") as out:
            out.write(text)
        target = PAGES / f"{name}.html"
        Path(beside).replace(target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    return target
