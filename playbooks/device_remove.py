"""Remove a device from the house: its keys, its node, its browser pairings, its open connections.

Run: pyinfra inventory.py playbooks/device_remove.py --data device=NAME
"""

from datetime import UTC, datetime

import click
from pyinfra import host

from facts.headscale import Headscale
from operations.devices.nodes import removed
from plan.devices.vpn_nodes import leaving
from tasks.devices import named_device
from tasks.engine.house import WrongInput, check_reached, the_house

check_reached()
house = the_house()
known = host.get_fact(Headscale)
if not known.answers:
    # Without Headscale's answer, the run would not see the device's node and keys, and would delete their record.
    raise WrongInput(f"Headscale on {host.name} does not answer (nothing was changed). Next: run the deployment")
name = named_device(house, known.record)
wanted = leaving(name, known.nodes, known.keys, known.record, datetime.now(UTC))
for line in wanted.announced or [f"{name} has no node and no open key; its pairings are looked for"]:
    click.echo(f"    {line}", err=True)
removed(name=f"Devices | Remove {name}", house=house, device=name)
