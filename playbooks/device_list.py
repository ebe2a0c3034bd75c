"""List all nodes of the VPN: hosts, designated devices, and strangers, with the browsers that OpenClaw has approved.

Run: pyinfra inventory.py playbooks/device_list.py [--data json=true]
"""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial

import click
from pyinfra import host
from rich.console import Console
from rich.table import Column, Table

from facts.headscale import Headscale
from operations.devices.nodes import all_versions, who_is_who
from operations.openclaw.browsers import all_pairings
from plan.devices.device_list import entries, table_rows
from tasks.devices import yes_or_no
from tasks.engine.begin import leave
from tasks.engine.house import check_reached, the_house
from tasks.tailscale import too_new

check_reached()
house, now, as_json = the_house(), datetime.now(UTC), yes_or_no("json", "leave it out for a table")
known = host.get_fact(Headscale)
browsers, unknown = all_pairings(house)
versions, untold = all_versions(house)
roll = entries(house, who_is_who(house, known), known.keys, known.record, browsers, now, versions, since := too_new())
if as_json:
    shown = {"nodes": [asdict(each) for each in roll.nodes], "other_browsers": [asdict(each) for each in roll.others]}
    click.echo(json.dumps({**shown, "browsers_unknown": unknown, "versions_unknown": untold}, indent=2, default=str))
    leave()
head, *rows = table_rows(roll, now)
# The table has no lines between columns, because they take as much room as two columns. Names and addresses are not
# broken, so that people can search for them. The column of browsers is broken first.
columns = [Column(title, overflow="fold") for title in head]
for title in ("name", "address"):
    place = head.index(title)
    columns[place].min_width = min(30, max(len(row[place]) for row in rows))
table = Table(*columns, box=None, padding=(0, 2, 0, 0), pad_edge=False)
for row in rows:
    table.add_row(*row)
# Rich must not interpret marks in the text, because devices and browsers choose their own names.
console = Console(width=None if sys.stdout.isatty() else 100, markup=False, highlight=False, emoji=False)
console.print(table)
say = partial(console.print, soft_wrap=True)
for stranger in roll.nodes:
    if ":" in stranger.what:
        say(f"{stranger.name} is {stranger.what}")
for each in roll.others:
    say(f"browser {each.name} from {each.address or 'an unknown address'}, of no node above: {each.shown_id}")
if cut_off := [each.name for each in roll.nodes if each.cut_off]:
    say(f"Tailscale {since} or newer does not reach this house's hosts: {', '.join(cut_off)}. Next: docs/devices.md")
if untold:
    say(f"versions of Tailscale are not known: {untold}")
if unknown:
    say(f"browser pairings are not known: {unknown}")
leave()
