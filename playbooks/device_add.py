"""Add a designated device: make a key that is valid once, and an enrolment page with that key.

Run: pyinfra inventory.py playbooks/device_add.py --data device=NAME [--data hours=NUMBER]
"""

from datetime import UTC, datetime

import click
from pyinfra import host

from facts.headscale import Headscale
from operations.devices.enrolment import enrolled
from operations.devices.nodes import who_is_who
from tasks.devices import designated, hours, named_device, ready
from tasks.engine.begin import leave
from tasks.engine.house import check_reached, the_house
from tasks.openclaw import TOKEN
from tasks.tailscale import too_new

check_reached()
house = the_house()
device, life = designated(house, named_device(house)), hours()
node = who_is_who(house, host.get_fact(Headscale)).devices.get(device.name)
if node and not node.expired(datetime.now(UTC)):
    click.echo(
        f"\n    {device.name} has joined already, as {node.name} with {', '.join(node.addresses)}. Nothing was made.\n"
        f"    To add it again, remove it first: playbooks/device_remove.py --data device={device.name}\n",
        err=True,
    )
    leave()
ready(house, device, TOKEN)
enrolled(
    name=f"Devices | Key and page for {device.name}, good for {life} h",
    house=house,
    device=device,
    hours=life,
    token=TOKEN,
    too_new=too_new(),
)
