"""Fetch the backups that a host has made by itself, and keep them beside the whole ones."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterable
from datetime import datetime
from pathlib import Path

import click
from pyinfra import host, logger
from pyinfra.api import FunctionCommand, Host, State, operation

from operations.backup.folder import begin, finish, same_house, thin_out, whole
from operations.backup.make import Backup
from operations.engine.announced_changes import differs
from operations.engine.download import download
from operations.engine.run_on_host import RemoteError, run_on
from plan.backup.manifest import About, Manifest, file_of, folder_name, parse_manifest
from plan.backup.retention import superfluous
from plan.backup.schedule import ON
from plan.engine.difference import Change
from plan.engine.terminal_text import line


def list_script(folder: str, name: str, house: str) -> str:
    """A script that prints the manifests of the backups that a host has made of itself, each in one line."""
    own = f"{folder}/{ON}{name}"
    return "\n".join(
        [
            f"cd {shlex.quote(own)} 2>/dev/null || {{ echo nothing; exit 0; }}",
            f"for m in {house}-*/manifest.json; do",
            '[ -f "$m" ] && [ ! -L "$m" ] && [ ! -L "$(dirname "$m")" ] || continue',
            'printf \'kept %s \' "$(dirname "$m")"; tr -d \'\\n\' <"$m"; echo; done; echo end',
        ]
    )


def parse_list(text: str, name: str, about: About) -> list[Manifest]:
    """The whole backups of this house that the host NAME has made of itself. Others, and what is not understood, are
    left where they are. Raises ValueError when the list was cut short."""
    found, lines = list[Manifest](), text.splitlines()
    if lines[-1:] == ["nothing"]:
        return found
    if lines[-1:] != ["end"]:
        raise ValueError("the list of its own backups was cut short")
    for each in lines[:-1]:
        _, folder, manifest = (*each.split(" ", 2), "", "")[:3]
        try:
            made = parse_manifest(manifest)
        except ValueError:
            continue
        files = [part.file for part in made.parts]
        own = (made.alone, made.about.house, made.about.authority) == (name, about.house, about.authority)
        if own and files == [file_of(name)] and folder == folder_name(made.about):
            found.append(made)
    return found


def to_fetch(there: Iterable[Manifest], here: Iterable[datetime]) -> list[Manifest]:
    """Which of a host's backups are fetched, oldest first: those that are not here, and that would stay here."""
    made = {each.about.made: each for each in there}
    known = set(here)
    going = set(superfluous({*made, *known}))
    return [made[each] for each in sorted(made) if each not in known and each not in going]


@operation()
def fetched(backup: Backup, folder: str) -> Generator[FunctionCommand, None, None]:
    """Own what is kept on the controller of the backups that this host has made by itself in its `folder`.

    A second run fetches nothing. Costs one remote command, and one for each backup that is fetched.
    """
    differs(Change(f"own backups of {host.name}", "fetched"))
    yield FunctionCommand(_fetch, (backup, folder), {})


def _fetch(state: State, host: Host, backup: Backup, folder: str) -> bool:
    name = str(host.name)
    to = backup.folder / f"{ON}{name}"
    try:
        there = parse_list(run_on(host, list_script(folder, name, backup.about.house)), name, backup.about)
        here = [each.manifest.about.made for each in same_house(whole(to), backup.about)] if to.is_dir() else []
        wanted = to_fetch(there, here)
        if wanted:
            to.mkdir(mode=0o700, exist_ok=True)
        for made in wanted:
            _one(host, f"{folder}/{ON}{name}/{folder_name(made.about)}", to, made)
        if wanted:
            thin_out(to, backup.about)
    except (RemoteError, OSError, ValueError) as error:
        logger.error(
            f"{host.print_prefix}the whole backup is made, but not all of those were fetched that the host has made by "
            f"itself: {line(error)}. Next: see to that, then run this again"
        )
        return False
    return True


def _one(host: Host, folder: str, to: Path, made: Manifest) -> None:
    half, (part,) = begin(to, made.about), made.parts
    download(host, f"{folder}/{part.file}", part.size, part.sha256, half / part.file)
    final = finish(half, made)
    click.echo(f"    fetched from {host.name}: {final}, {part.size:,} bytes", err=True)
