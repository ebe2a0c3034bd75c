"""Make a backup of a house: every host its part, side by side; then it is whole, or nothing."""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pyinfra import host, inventory, logger, state
from pyinfra.api import FunctionCommand, Host, State, operation

from operations.backup.controller import files_of, need_age, part_of
from operations.backup.folder import begin, finish, target, thin_out
from operations.backup.on_host import done_script, make_script, parse_made
from operations.engine.announced_changes import differs
from operations.engine.download import download
from operations.engine.one_run import hold
from operations.engine.run import once_a_run, this_run
from operations.engine.run_on_host import RemoteError, run_on
from plan.backup.manifest import About, Manifest, Part, file_of, folder_name, missing
from plan.backup.places import ENCRYPTED
from plan.backup.recipients import need_recipients
from plan.engine.difference import Change
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line
from plan.house.house import House


@dataclass
class Backup:
    """One backup that is being made into `folder`. `half` is where, once it has begun."""

    about: About
    recipients: tuple[str, ...]
    folder: Path
    inventory: str
    hosts: tuple[str, ...]
    half: Path | None = None
    parts: dict[str, Part] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)


@once_a_run
def backup_of(house: House, revision: str, authority: str) -> Backup:
    """The backup of this run, the same for all of its hosts. `authority`: the CA's certificate (PEM), "" for none.

    Raises SettingError where it cannot be made; nothing has been done then.
    """
    command = this_run().command_line
    if command.limit:
        accepted = "no limit: a backup is of the whole house, and asks coordinator and gateways alone"
        raise SettingError("--limit", " ".join(command.limit), accepted, "leave it out")
    need_recipients(house.backup_recipients)
    need_age()
    folder = target(command.data.get("to"))
    if not authority:
        where = f"host {house.coordinator.name}"
        raise SettingError(where, "no authority", "the coordinator of a house that was deployed", "run the deployment")
    about = About(
        house=house.name,
        domain=house.domain,
        made=datetime.now(UTC).replace(microsecond=0),
        authority=x509.load_pem_x509_certificate(authority.encode()).fingerprint(hashes.SHA256()).hex(),
        revision=revision,
    )
    hosts = tuple(str(each.name) for each in state.inventory if state.is_host_in_limit(each))
    keys = f"{len(house.backup_recipients)} public key{'s' if len(house.backup_recipients) > 1 else ''}"
    click.echo(f"\n    {folder / folder_name(about)}: of {', '.join(hosts)} and this computer, for {keys}\n", err=True)
    return Backup(about, house.backup_recipients, folder, command.inventory, hosts)


@operation()
def begun(backup: Backup) -> Generator[FunctionCommand, None, None]:
    """Own the folder of a backup that is not whole. Called by one host, before any other makes its part."""
    differs(Change(f"backup {backup.folder / folder_name(backup.about)}", "begun"))
    yield FunctionCommand(_begin, (backup,), {})


def _begin(state: State, host: Host, backup: Backup) -> bool:
    try:
        backup.half = begin(backup.folder, backup.about)
    except OSError as error:
        logger.error(f"{host.print_prefix}no backup: {line(error)}. Next: see {backup.folder}, then run this again")
        return False
    return True


@operation()
def part_made(backup: Backup, roles: Sequence[str], token: str) -> Generator[FunctionCommand, None, None]:
    """Own this host's part of a backup: made and checked on the host, encrypted there, fetched.

    `token` is OpenClaw's file. Costs two remote commands. Services go on meanwhile.
    """
    differs(Change(f"backup of {host.name}", "made"))
    yield FunctionCommand(_make, (backup, tuple(roles), token), {})


def _make(state: State, host: Host, backup: Backup, roles: tuple[str, ...], token: str) -> bool:
    assert backup.half is not None
    name = str(host.name)
    if "gateway" in roles:
        host.log("OpenClaw makes a backup of its state and checks it: seconds, with many files minutes")
    try:
        script = make_script(roles, backup.recipients, shlex.quote(token))
        try:
            made = parse_made(run_on(host, script, stdin=backup.about.text(name, roles)))
        except ValueError as error:
            raise RemoteError(f"{name}: {error}") from error
        part = Part(name, roles, file_of(name), made.size, made.sha256, made.holds, made.programs)
        if lacking := missing(part):
            raise RemoteError(f"{name}: its part lacks {', '.join(lacking)}")
        download(host, ENCRYPTED, part.size, part.sha256, backup.half / part.file)
    except (RemoteError, OSError) as error:
        logger.error(f"{host.print_prefix}no backup: {line(error)}. Next: see to that, then run this again")
        return False
    backup.parts[name] = part
    return True


@operation()
def finished(backup: Backup) -> Generator[FunctionCommand, None, None]:
    """Own the end of a backup: the controller's part, the manifest, the name by which it counts as whole, the note of
    it on each host, and the removal of superfluous ones. Costs one remote command for each host."""
    hold()
    yield FunctionCommand(_finish, (backup,), {})


def _finish(state: State, host: Host, backup: Backup) -> bool:
    assert backup.half is not None
    try:
        own = part_of(files_of(backup.inventory), backup.about, backup.recipients, backup.half)
        parts = (*(backup.parts[name] for name in backup.hosts), own)
        final = finish(backup.half, Manifest(backup.about, backup.recipients, parts))
        gone = thin_out(backup.folder, backup.about)
    except (RemoteError, OSError, KeyError) as error:
        logger.error(f"{host.print_prefix}no backup: {line(error)}. Next: see to that, then run this again")
        return False
    size = sum(part.size for part in parts)
    click.echo(f"\n    {final}: {size:,} bytes in {time.monotonic() - backup.begun:.1f} s", err=True)
    for each in gone:
        click.echo(f"    removed, since newer ones are there: {each}", err=True)
    click.echo("    Next: bring it to a second place, and try it: make backup-check\n", err=True)
    for name in backup.hosts:
        try:
            run_on(inventory.get_host(name), done_script())
        except RemoteError as error:
            # The backup is whole.
            logger.warning(f"{name} does not know of the backup, so `make status` will not: {line(error)}")
    return True
