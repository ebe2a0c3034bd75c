"""Restore: what a backup holds goes back to bare hosts. Then a deployment makes the rest, and ends the restore."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
from pyinfra import host, inventory

from artifacts import pins
from facts.restore import RestorePlaces
from operations.backup.alive import answering, ask_hosts, key_of
from operations.backup.check import BadPart
from operations.backup.folder import Kept
from operations.backup.opened import Bundle, authority_of, bundle
from operations.backup.put_back import put_back
from operations.backup.wanted import Wanted, wanted_restore
from operations.engine.answers import ask
from operations.engine.run import once_a_run
from plan.backup.restoring import Restored, near, parse_restored, stands, unfit
from plan.engine.errors import SettingError, refuse
from plan.engine.terminal_text import plain
from plan.health import ago
from plan.house.house import House
from tasks.engine.hosts import This
from tasks.engine.house import WrongInput, entries

REPOSITORY = Path(__file__).resolve().parent.parent
_OPENING = threading.Lock()
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """A restore whose backup is good and whose house is dead: what each host gets."""

    wanted: Wanted
    bundles: Mapping[str, Bundle]


def restore(this: This) -> None:
    """On a host that gets something: refuse it if it is not empty, else put everything into its places.

    Call `plan` before, and the checks and accounts of `tasks/base.py` between the two.
    """
    found, mine = plan(this.house), this.member.name
    note, before = _note(found.wanted, mine), parse_restored(this.profile.restored)
    put_back(name="Restore | State", bundle=found.bundles[mine], note=note, before=before)


def check_empty(this: This) -> None:
    """Refuse a host that has something which the restore would replace. Raises WrongInput."""
    note = _note(plan(this.house).wanted, this.member.name)
    there = ask(host, RestorePlaces, roles=note.roles)
    problem = stands(this.member.name, parse_restored(this.profile.restored), there, note)
    if problem:
        raise WrongInput(f"{problem} (nothing was changed)")


def _note(wanted: Wanted, name: str) -> Restored:
    about = wanted.chosen.kept.manifest.about
    return Restored("deploy", about.house, about.made, about.authority, wanted.targets.roles(name))


def plan(house: House) -> Plan:
    """The restore of this run: its backup opened and compared, the house looked for. Everything is said once.

    Raises WrongInput, before any host has changed.
    """
    with _OPENING:
        return _plan(house)


@once_a_run
def _plan(house: House) -> Plan:
    try:
        wanted = wanted_restore(house)
        manifest, folder = wanted.chosen.kept.manifest, wanted.chosen.kept.folder
        programs = {name: each.version for name, each in pins.load().programs.items()}
        pieces = [piece for host in wanted.hosts for piece in wanted.targets.pieces[host]]
        refuse(unfit(manifest, pieces, programs))
        bundles = {host: _open(wanted, host) for host in wanted.hosts}
        about = manifest.about
        click.echo(
            plain(
                f"\n    {folder}\n    of {about.house} ({about.domain}), made {about.made:%Y-%m-%d %H:%M} UTC, "
                f"{ago(int((datetime.now(UTC) - about.made).total_seconds()))}, at revision {about.revision}\n"
                f"    the CA's fingerprint (SHA-256) is {about.authority}"
            ),
            err=True,
        )
        for name, found in bundles.items():
            click.echo(plain(f"    {name} gets {' and '.join(wanted.targets.roles(name))}:"), err=True)
            click.echo("".join(plain(f"      {words}\n") for words in found.told), nl=False, err=True)
        for words in wanted.targets.told:
            click.echo(plain(f"    {words}"), err=True)
        _look_for_the_house(house, wanted, bundles)
    except SettingError as error:
        raise WrongInput(f"{error} (nothing was changed)") from error
    lost = "What the house has learned since then is not in it"
    click.echo(f"    {lost}: messages, devices, approvals, and that something was removed or revoked\n", err=True)
    return Plan(wanted, bundles)


def _open(wanted: Wanted, host: str) -> Bundle:
    kept, pieces = wanted.chosen.kept, wanted.targets.pieces[host]
    return _read(kept, lambda: bundle(kept.folder, kept.manifest.about, wanted.chosen.identity, pieces))


def _read(kept: Kept, read: Callable[[], T]) -> T:
    """What `read` finds in a backup. Raises SettingError when the backup is of no use."""
    try:
        return read()
    except BadPart as error:
        step = "use an older backup: --data from=FOLDER; `make backup-check` tries one without asking any host"
        raise SettingError(f"backup {kept.folder}", str(error), "a backup that is whole and good", step) from error


def _look_for_the_house(house: House, wanted: Wanted, bundles: Mapping[str, Bundle]) -> None:
    """Refuse to restore a coordinator while that of the house is alive, and hosts of another house.

    Raises SettingError.
    """
    about = wanted.chosen.kept.manifest.about
    made = f"{about.made:%Y-%m-%d %H:%M} UTC"
    coordinator = house.coordinator.name
    if coordinator not in wanted.hosts or "coordinator" not in wanted.targets.roles(coordinator):
        _same_house(house, wanted)
        return
    mine = bundles[coordinator]
    key = key_of(mine.authority)
    # In a lab, where restores are rehearsed, the real house is alive and nobody's business.
    before = near(house, mine.addresses) if _virtual() else mine.addresses
    places = list(dict.fromkeys((*house.coordinator.addresses, *before)))
    others = [inventory.get_host(each.name) for each in house.members if each.name not in wanted.hosts]
    heard, silent = ask_hosts(house, others)
    strangers = [each.host for each in heard if each.trusts and key not in each.trusts]
    if strangers:
        raise SettingError(
            f"host {', '.join(strangers)}",
            "a host that trusts another authority than the backup's",
            f"hosts of the house whose authority is {about.authority[:16]}...",
            "use a backup of the house that these hosts are in; or correct their addresses in the inventory; or take "
            "them out of it until the house is restored",
        )
    alive = [f"{each} answers" for each in answering(house, places, mine.authority)]
    alive += [f"{each.host} hears it" for each in heard if each.alive]
    if alive:
        raise SettingError(
            f"house {house.name}",
            f"alive: its control server ({', '.join(alive)}); so it is newer than this backup of {made}",
            "a house whose coordinator is gone",
            "nothing needs to be restored. To go back to the backup all the same, end it first, on the host that "
            "answers: systemctl disable --now headscale",
        )
    asked = f"no control server answers at {', '.join(places)}"
    same = [each.host for each in heard if each.trusts]
    click.echo(plain(f"    {asked}"), err=True)
    if same:
        click.echo(plain(f"    {', '.join(same)} trusts this authority, and hears no control server"), err=True)
    else:
        click.echo(
            "    no host says which authority it trusts: compare the fingerprint with that of a device", err=True
        )
    if silent:
        click.echo(plain(f"    not asked, since they cannot be reached: {', '.join(silent)}"), err=True)


def _virtual() -> bool:
    """Whether all hosts are those of a lab of this checkout."""
    lab = str(REPOSITORY / ".lab") + os.sep
    return all(str(entry.data.get("ssh_config_file", "")).startswith(lab) for entry in entries())


def _same_house(house: House, wanted: Wanted) -> None:
    """Refuse to restore a gateway into a house of another authority. Raises SettingError."""
    kept = wanted.chosen.kept
    key = key_of(_read(kept, lambda: authority_of(kept.folder, kept.manifest, wanted.chosen.identity)))
    heard, _ = ask_hosts(house, [inventory.get_host(house.coordinator.name)])
    if not heard or key not in heard[0].trusts:
        raise SettingError(
            f"host {house.coordinator.name}",
            "another house's coordinator" if heard and heard[0].trusts else "no coordinator that is deployed",
            f"the coordinator of the house whose authority is {kept.manifest.about.authority[:16]}...",
            "restore the coordinator too: leave --data role out; or use a backup of this house",
        )
