"""Rehearse a restore: a backup goes into virtual hosts of this machine. There everything is deployed and verified,
and a message is sent. No host of the house is asked. Needs root, as the lab does. Exit status: 0 when all was good.

Run: pyinfra -y inventory.py playbooks/rehearse.py [--data identity=FILE] [--data from=FOLDER]
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import click

from lab.rehearsal import PLAN
from operations.backup.wanted import chosen_backup
from operations.engine.run import this_run
from plan.backup.rehearsal import rehearsal
from plan.backup.restoring import ROLES, targets
from plan.engine.errors import SettingError
from plan.engine.terminal_text import plain
from tasks.devices import refuse
from tasks.engine.begin import leave
from tasks.engine.house import entries, the_house

house = the_house()
try:
    if os.geteuid() != 0:
        raise SettingError("this account", os.environ.get("USER", ""), "root, which the virtual hosts need", "use sudo")
    found = chosen_backup(house)
    about = found.kept.manifest.about
    planned = rehearsal(house, entries())
    told = [*planned.told, *targets(found.kept.manifest, house, ROLES).told]
except SettingError as error:
    refuse(error)
where = ", ".join(f"{each.slot} as {each.name}" for each in planned.hosts)
of = f"of {about.house} ({about.domain}), made {about.made:%Y-%m-%d %H:%M} UTC"
click.echo(plain(f"\n    {found.kept.folder}\n    {of}, goes into {where}"))
for words in told:
    click.echo(plain(f"    {words}"))
if this_run().command_line.dry:
    leave()
folder = Path(tempfile.mkdtemp(prefix="private-ai-rehearsal-"))
(folder / "house.py").write_text(planned.inventory)
plan = {
    "topology": planned.topology,
    "backup": str(found.kept.folder.resolve()),
    "identity": str(found.identity.resolve()),
    "made": about.made.isoformat(),
    "told": told,
}
(folder / PLAN).write_text(json.dumps(plan))
sys.stdout.flush()
# In the place of this run, which has nothing to do with the hosts of the house any more.
os.execv(sys.executable, [sys.executable, "-m", "lab.rehearsal", str(folder)])
