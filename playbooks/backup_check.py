"""Try a backup: decrypt it into memory and compare all of it. Asks no host. Exit status: 0 when it is good, else 1.

Run: pyinfra -y inventory.py playbooks/backup_check.py [--data identity=FILE] [--data from=FOLDER]
"""

from datetime import UTC, datetime

import click

from operations.backup.check import BadPart, compare, decrypt, private_folder, unpack, whole_file
from operations.backup.wanted import chosen_backup
from plan.backup.manifest import missing_parts
from plan.engine.errors import SettingError
from plan.engine.terminal_text import plain
from plan.health import ago
from tasks.devices import refuse
from tasks.engine.begin import leave
from tasks.engine.house import the_house

try:
    given = chosen_backup(the_house())
except SettingError as error:
    refuse(error)
backup, identity = given.kept, given.identity
about = backup.manifest.about
alone = f", of the host {backup.manifest.alone} alone" if backup.manifest.alone else ""
click.echo(
    plain(
        f"\n    {backup.folder}\n    of {about.house} ({about.domain}){alone}, made {about.made:%Y-%m-%d %H:%M} UTC, "
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
