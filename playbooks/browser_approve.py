"""Approve a browser that waits at the Control UI. You see which browsers ask, and name the one to approve.

Run: pyinfra inventory.py playbooks/browser_approve.py [--data request=ID]
"""

import shlex
import sys
from datetime import UTC, datetime

import click
from pyinfra import host

from facts.headscale import Headscale
from operations.devices.nodes import who_is_who
from operations.engine.run import this_run
from operations.openclaw.browser_approval import approved
from operations.openclaw.browsers import all_pairings
from plan.devices.device_list import entries
from plan.engine.errors import SettingError
from plan.openclaw.browser_requests import described, named_request, requests
from tasks.devices import refuse
from tasks.engine.begin import leave
from tasks.engine.house import WrongInput, check_reached, the_house

check_reached()
house, now, given = the_house(), datetime.now(UTC), this_run().command_line.data.get("request")
known = host.get_fact(Headscale)
browsers, untold = all_pairings(house)
if untold and not browsers:
    raise WrongInput(f"no gateway said which browsers wait: {untold} (nothing was changed)")
waiting = requests(entries(house, who_is_who(house, known), known.keys, known.record, browsers, now))
if untold:
    click.echo(f"\n    Not all gateways answered: {untold}", err=True)
for number, each in enumerate(waiting, 1):
    click.echo(f"\n{number}. " + described(each, now).replace("\n", "\n   "), err=True)
click.echo("" if waiting else "\n    No browser waits. A request ends after five minutes; reload the page.\n", err=True)
if given is not None:
    try:
        chosen = named_request(waiting, given)
    except SettingError as error:
        refuse(error)
elif not waiting:
    leave()
elif this_run().command_line.yes or this_run().command_line.dry or not sys.stdin.isatty():
    click.echo("To approve one, after you have compared its ID with the one that its page shows:", err=True)
    for each in waiting:
        file, request = shlex.quote(this_run().command_line.inventory), shlex.quote(each.pairing.shown_id)
        click.echo(f"pyinfra -y {file} playbooks/browser_approve.py --data request={request}")
    leave()
else:
    # The default is "none", so that Enter alone approves no browser.
    answer = click.prompt("Approve which? 0 is none", type=click.IntRange(0, len(waiting)), default=0, err=True)
    if answer == 0:
        leave()
    chosen = waiting[answer - 1]
approved(name=f"OpenClaw | Approve the browser of {chosen.whose}", request=chosen)
