"""Make a pair of keys for backups: the private one into a file that you keep, the public one for group_data/all.py.

Run: pyinfra -y inventory.py playbooks/backup_key.py [--data identity=FILE]
"""

import subprocess
from pathlib import Path

import click

from operations.backup.controller import identity_file, need_age
from operations.engine.run import this_run
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line
from tasks.devices import refuse
from tasks.engine.begin import leave
from tasks.engine.house import the_house

house = the_house()
given = this_run().command_line.data.get("identity")
file = Path(given).expanduser() if given else identity_file(house.name)
try:
    need_age()
    if file.exists() or file.is_symlink():
        step = "keep it; for another pair name another file: --data identity=FILE"
        raise SettingError("--data identity", str(file), "a file that is not there yet; none is overwritten", step)
    if not file.parent.is_dir():
        raise SettingError("--data identity", str(file), "a file in a folder that is there", "make the folder: mkdir")
except SettingError as error:
    refuse(error)
if this_run().command_line.dry:
    click.echo(f"    {file} would be made")
    leave()
# It makes a new file for its owner alone.
made = subprocess.run(["age-keygen", "--output", str(file)], capture_output=True, text=True, check=False)
if made.returncode:
    refuse(SettingError("--data identity", str(file), "a file that can be written", line(made.stderr.strip())))
file.chmod(0o600)
read = subprocess.run(["age-keygen", "-y", str(file)], capture_output=True, text=True, check=True)
click.echo(f"""
    {file} is the private key. Whoever has it can read every backup; without it nobody can.
    - Keep it off every host of the house. Copy it to two places that do not burn together: for example a USB stick in
      another building, and your password manager. It is one line of text, so paper works as well.
    - Then take it off this computer, unless you want `make backup-check` to find it here.
    - Lost, it cannot be made again: make another pair, and another backup.

    The public key, for group_data/all.py (nothing can be read with it):

    backup_recipients = ["{read.stdout.strip()}"]
""")
leave()
