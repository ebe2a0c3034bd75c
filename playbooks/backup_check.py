"""Try a backup: decrypt it into memory and compare all of it. Asks no host. Exit status: 0 when it is good, else 1.

Run: pyinfra -y inventory.py playbooks/backup_check.py [--data identity=FILE] [--data from=FOLDER]
"""

from datetime import UTC, datetime
from pathlib import Path

import click

from operations.backup.check import BadPart, compare, decrypt, private_folder, unpack, whole_file
from operations.backup.controller import identity_file, need_age
from operations.backup.folder import DEFAULT, chosen
from operations.engine.run import this_run
from plan.backup.manifest import missing_parts
from plan.engine.errors import SettingError
from plan.engine.terminal_text import plain
from plan.health import ago
from tasks.devices import refuse
from tasks.engine.begin import leave
from tasks.engine.house import the_house

house, data = the_house(), this_run().command_line.data
identity = Path(data.get("identity") or identity_file(house.name)).expanduser()
try:
    need_age()
    if not identity.is_file():
        accepted = "the file with the private key that `make backup-key` made"
        raise SettingError("--data identity", str(identity), accepted, "add --data identity=FILE")
    backup = chosen(data.get("from") or str(DEFAULT), house.name, house.domain)
except SettingError as error:
    refuse(error)
about = backup.manifest.about
click.echo(
    plain(
        f"\n    {backup.folder}\n    of {about.house} ({about.domain}), made {about.made:%Y-%m-%d %H:%M} UTC, "
        f"{ago(int((datetime.now(UTC) - about.made).total_seconds()))}, at revision {about.revision}\n"
        f"    the CA's fingerprint (SHA-256) is {about.authority}"
    )
)
wrong = missing_parts(backup.manifest)
for words in wrong:
    click.echo(f"    WRONG  {words}")
for part in backup.manifest.parts:
    try:
        with private_folder() as folder:
            file = backup.folder / part.file
            whole_file(file, part)
            decrypt(file, identity, folder / "part.tar")
            (folder / "files").mkdir()
            unpack(folder / "part.tar", folder / "files")
            told = compare(folder / "files", about, part)
    except BadPart as error:
        wrong.append(part.file)
        click.echo(plain(f"    WRONG  {part.file} {error}"))
    else:
        click.echo(plain(f"    good   {part.file}: {'; '.join(told)}"))
if wrong:
    click.echo("\n    Not good. Next: use an older backup, and make a new one while the house lives: make backup\n")
    leave(1)
click.echo("\n    Good: everything is there, and as it was.\n")
leave()
