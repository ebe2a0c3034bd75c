"""Show the state of every host in one table, from the host's own last look.

Run: pyinfra -y inventory.py playbooks/status.py [--data now=true] [--data json=true]
Exit status: 0 all is well, 1 something failed.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime

import click
from pyinfra import host, inventory, state
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from artifacts import advisories, pins
from operations.backup.folder import newest_here
from operations.health import look
from plan.engine.errors import SettingError
from plan.engine.terminal_text import plain
from plan.health import backup_here, line, new_authority, table_rows
from plan.upgrade.advisories import age_line, hole_line
from tasks.devices import refuse
from tasks.engine.begin import leave
from tasks.engine.house import the_house

now = host.data.get("now", False)
if not isinstance(now, bool):
    refuse(SettingError("--data now", now, "true or false", "leave it out to see the states of the last looks"))
known, pinned = advisories.load(), pins.load()
hosts = [(member, inventory.get_host(member.name)) for member in the_house().members]
hosts = [(member, target) for member, target in hosts if state.is_host_in_limit(target)]
with ThreadPoolExecutor(len(hosts)) as pool:
    answers = list(pool.map(lambda each: look(each[1], now), hosts))
lines = [line(member, answer) for (member, _), answer in zip(hosts, answers, strict=True)]
holes = [
    hole
    for (member, _), answer in zip(hosts, answers, strict=True)
    for each in answer.installed
    if (hole := hole_line(member.name, each.program, each.version, known, pinned.programs[each.program].version))
]
old = age_line(pinned.checked, datetime.now(UTC).date())
bad = any(each.bad for each in lines)
house = the_house()
here = newest_here(house.name, house.domain)
if host.data.get("json"):
    made = {"backup_here": here.isoformat() if here else None} if house.backup_recipients else {}
    found = {"bad": bad, "hosts": [asdict(each) for each in lines], "known_holes": holes, "pins": str(pinned.checked)}
    click.echo(json.dumps(found | made, indent=2))
else:
    head, *rows = table_rows(lines)
    table = Table(*(Column(title, overflow="fold") for title in head))
    for each, row in zip(lines, rows, strict=True):
        table.add_row(*map(escape, row), style="red" if each.bad else "yellow" if each.state != "ok" else "")
    # If the output goes to a file, the table is wide, so that programs can search its lines.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    said_by = {member.name: answer for (member, _), answer in zip(hosts, answers, strict=True)}
    for words in new_authority(house, said_by):
        click.echo(words, err=True)
    if house.backup_recipients:
        said, warns = backup_here(here, datetime.now(UTC))
        click.echo(click.style(said, fg="yellow" if warns else None), err=warns)
    else:
        click.echo("No backups are made: backup_recipients is not set, see docs/backup.md", err=True)
for said in filter(None, [*holes, old]):
    click.echo(plain(said), err=True)
leave(1 if bad else 0)
