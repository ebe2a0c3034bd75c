"""What a restore is asked to restore: a backup, its private key, and which host gets what. Nothing is decrypted yet."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from operations.backup.controller import identity_file, need_age
from operations.backup.folder import DEFAULT, Kept, chosen
from operations.engine.run import once_a_run, this_run
from plan.backup.restoring import Targets, asked_roles, targets
from plan.engine.errors import SettingError
from plan.house.house import House


@dataclass(frozen=True)
class Chosen:
    """A backup, and the file with the private key for it."""

    kept: Kept
    identity: Path


@dataclass(frozen=True)
class Wanted:
    """A restore: of which backup, with which key, to which hosts. `roles`: those that are restored at all."""

    chosen: Chosen
    targets: Targets
    roles: tuple[str, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(self.targets.pieces)


@once_a_run
def chosen_backup(house: House) -> Chosen:
    """The backup of `--data from=FOLDER` (else the newest of this house), with the key of `--data identity=FILE`.

    Raises SettingError.
    """
    data = this_run().command_line.data
    need_age()
    identity = Path(data.get("identity") or identity_file(house.name)).expanduser()
    if not identity.is_file():
        accepted = "the file with the private key that `make backup-key` made"
        raise SettingError("--data identity", str(identity), accepted, "add --data identity=FILE")
    return Chosen(chosen(data.get("from") or str(DEFAULT), house.name, house.domain), identity)


@once_a_run
def wanted_restore(house: House) -> Wanted:
    """The restore that this run is asked for. Raises SettingError."""
    command = this_run().command_line
    accepted = ("from", "identity", "role")
    if other := sorted(command.data.keys() - set(accepted)):
        raise SettingError("--data", other[0], " or ".join(f"{each}=..." for each in accepted), "correct the name")
    roles = asked_roles(command.data)
    found = chosen_backup(house)
    every = targets(found.kept.manifest, house, roles)
    if not command.limit:
        return Wanted(found, every, roles)
    groups = {member.name: {*member.roles, "all", member.name} for member in house.members}
    pieces = {
        name: pieces
        for name, pieces in every.pieces.items()
        if any(pattern in groups[name] or fnmatch(name, pattern) for pattern in command.limit)
    }
    if not pieces:
        raise SettingError(
            "--limit", " ".join(command.limit), f"a host that is restored: {', '.join(every.pieces)}", "correct it"
        )
    return Wanted(found, Targets(pieces, every.told), roles)
