"""Put what a backup holds of a host back into its places."""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator

import click
from pyinfra import host, logger
from pyinfra.api import FunctionCommand, Host, State, operation

from facts.ca import CA_FOLDER
from operations.backup.on_host import HOOKS
from operations.backup.opened import Bundle
from operations.engine.announced_changes import differs
from operations.engine.run_on_host import RemoteError, run_on
from operations.engine.shell import below, inside, into_place
from operations.engine.upload import uploaded
from plan.backup.places import DONE, HEADSCALE, HEADSCALE_KEYS, STAGE, STATE, TOKEN
from plan.backup.restoring import RESTORED, Restored
from plan.devices.vpn_nodes import RECORD
from plan.engine.difference import Change
from plan.engine.terminal_text import line
from plan.openclaw.configuration import ACCOUNT

#: The name of the archive while it is on the host.
ARCHIVE = "state.tar"


@operation()
def put_back(bundle: Bundle, note: Restored, before: Restored | None) -> Generator[FunctionCommand, None, None]:
    """Own what cannot be made again of the roles in `note` on this host: it becomes that of a backup.

    RESTORED says how far it is; `before` is what it said when the run began. A restore that was cut off begins again
    from the start. Costs three remote commands; a second run costs none.
    """
    if before == note:
        host.noop("it is restored from this backup already")
        return
    differs(Change(f"{' and '.join(note.roles)} of {host.name}", "restored"))
    yield FunctionCommand(_put_back, (bundle, note), {})


def _put_back(state: State, host: Host, bundle: Bundle, note: Restored) -> bool:
    begun = time.monotonic()
    try:
        run_on(host, note_script(), stdin=Restored("files", note.house, note.made, note.authority, note.roles).text)
        if not uploaded(state, host, bundle.path, ARCHIVE, bundle.sha256, STAGE):
            return False
        run_on(host, place_script(note, bundle.sha256), stdin=note.text)
    except RemoteError as error:
        logger.error(
            f"{host.print_prefix}the restore was cut off: {line(error)}. Next: see to that, then run this again"
        )
        return False
    click.echo(
        f"\n    {host.name}: {' and '.join(note.roles)} restored, {bundle.size:,} bytes in "
        f"{time.monotonic() - begun:.1f} s",
        err=True,
    )
    return True


def note_script() -> str:
    """A script that writes standard input to RESTORED. Every account may read it."""
    return f"umask 022; mkdir -p {RESTORED.rpartition('/')[0]}; cat > {RESTORED}.new; {_noted()}"


def _noted() -> str:
    return into_place(f"{RESTORED}.new", RESTORED)


def place_script(note: Restored, sha256: str) -> str:
    """A script that unpacks the archive in STAGE and renames each file into its place. Standard input is the note that
    it writes at its end. It can be repeated until then."""
    lines = [
        "set -e; umask 077",
        f"({inside(STAGE)}; echo {sha256}  {ARCHIVE} | sha256sum --check --status; rm -rf files; mkdir files",
        f"tar --extract --preserve-permissions --file {ARCHIVE} --directory files)",
        *(_coordinator() if "coordinator" in note.roles else ()),
        *(_gateway() if "gateway" in note.roles else ()),
        *_hooks(),
        f"umask 022; echo {int(note.made.timestamp())} >{DONE}.new; {into_place(f'{DONE}.new', DONE)}",
        f"sync; rm -rf {STAGE}",
        f"cat > {RESTORED}.new; {_noted()}",
    ]
    return "\n".join(lines)


def _coordinator() -> list[str]:
    folder, _, name = HEADSCALE.rpartition("/")
    files = ("db.sqlite", *HEADSCALE_KEYS)
    return [
        f"({below(folder, (name,), 'headscale', 'headscale', '0750')}",
        # SQLite would play an old -wal into the database that is put beside it, without a word.
        "rm -f db.sqlite-wal db.sqlite-shm",
        *(f"mv -fT {STAGE}/files/headscale/{each} {each}" for each in files),
        ")",
        f"install -d -m 0700 {CA_FOLDER}",
        # The certificate comes last: if it is there, the authority is complete.
        *(f"mv -fT {STAGE}/files/ca/{each} {CA_FOLDER}/{each}" for each in ("ca.key", "ca.crt")),
        f"if [ -e {STAGE}/files/devices.json ]; then mv -fT {STAGE}/files/devices.json {RECORD}; fi",
    ]


def _gateway() -> list[str]:
    folder, _, name = STATE.rpartition("/")
    etc = TOKEN.rpartition("/")[0]
    return [
        f"({below(folder, (name,), ACCOUNT, ACCOUNT, '0700')}",
        # What an earlier restore has left, which was cut off.
        "find . -mindepth 1 -delete",
        f"find {STAGE}/files/state -mindepth 1 -maxdepth 1 -exec mv -t . -- {{}} +",
        ")",
        f"install -d -o root -g {ACCOUNT} -m 0750 {etc}; mv -fT {STAGE}/files/token {TOKEN}",
    ]


def _hooks() -> list[str]:
    """The administrator's own program for health, unless there is one."""
    lines = []
    for path in HOOKS:
        folder, _, name = path.rpartition("/")
        saved = shlex.quote(f"{STAGE}/files/hooks/{name}")
        put = f"install -d -m 0755 {folder}; mv -fT {saved} {shlex.quote(path)}"
        lines.append(f"if [ -e {saved} ] && [ ! -e {shlex.quote(path)} ]; then chmod 0755 {saved}; {put}; fi")
    return lines
