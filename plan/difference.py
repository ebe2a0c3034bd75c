"""Compare what a component wants with what a host has. Pure; the result says in words what will be done."""

from __future__ import annotations

from dataclasses import dataclass, fields

from plan.want import Account, Block, Component, Directory, Effect, File, Have, Program, Secret, Unit


@dataclass(frozen=True)
class Difference:
    """What is missing or different on a host, in the order in which it is carried out."""

    packages: tuple[str, ...]
    accounts: tuple[Account, ...]
    programs: tuple[Program, ...]
    links: tuple[tuple[str, str], ...]
    directories: tuple[Directory, ...]
    files: tuple[File, ...]
    secrets: tuple[Secret, ...]
    blocks: tuple[Block, ...]
    effects: tuple[Effect, ...]
    units: tuple[Unit, ...]

    def __bool__(self) -> bool:
        return any(getattr(self, part.name) for part in fields(self))

    def words(self) -> str:
        """One line for people: what will change."""
        said = [
            *(f"package {name}" for name in self.packages),
            *(f"account {account.name}" for account in self.accounts),
            *(f"program {program.name} {program.version}" for program in self.programs),
            *(f"link {link}" for link, _ in self.links),
            *(f"directory {directory.path}" for directory in self.directories),
            *(f"file {file.path}" for file in self.files),
            *(f"secret {secret.path}" for secret in self.secrets),
            *(f"lines in {block.path}" for block in self.blocks),
            *(f"what follows from {effect.path}" for effect in self.effects),
            *(f"{'stop' if unit.stopped else 'start'} {unit.name}" for unit in self.units),
        ]
        return ", ".join(said)


def difference(want: Component, have: Have) -> Difference:
    """What has to be done so that `have` becomes `want`; empty (false) when nothing has."""
    packages = tuple(name for name in want.packages if name not in have.packages)
    accounts = tuple(account for account in want.accounts if not _account_is(account, have))
    programs = tuple(program for program in want.programs if program.prefix not in have.paths)
    links = tuple(
        (link, f"{program.prefix}/{target}")
        for program in want.programs
        for link, target in program.links
        if link not in have.paths or have.paths[link].target != f"{program.prefix}/{target}"
    )
    directories = tuple(directory for directory in want.directories if not _directory_is(directory, have))
    files = tuple(file for file in want.files if not _file_is(file, have))
    secrets = tuple(secret for secret in want.secrets if not _secret_is(secret, have))
    blocks = tuple(block for block in want.blocks if have.blocks.get((block.path, block.name)) != block.sha256)
    changed = [file.path for file in files]
    effects = tuple(each for each in want.effects if each.path in changed or each.path not in have.effects)
    touched = {*changed, *(link for link, _ in links), *(secret.path for secret in secrets)}
    units = tuple(unit for unit in want.units if not _unit_is(unit, have, touched))
    return Difference(packages, accounts, programs, links, directories, files, secrets, blocks, effects, units)


def _account_is(account: Account, have: Have) -> bool:
    if account.name not in have.accounts or have.groups.get(account.name) != frozenset({account.name}):
        return False
    return not account.runs_containers or (account.name in have.subids and account.name in have.lingering)


def _directory_is(directory: Directory, have: Have) -> bool:
    if directory.empty and directory.path in have.filled:
        return False
    return _owned(directory, have) and have.paths[directory.path].kind == "directory"


def _file_is(file: File, have: Have) -> bool:
    return _owned(file, have) and have.paths[file.path].sha256 == file.sha256


def _secret_is(secret: Secret, have: Have) -> bool:
    # One that is shorter was not made here, and can be guessed.
    return _owned(secret, have) and have.paths[secret.path].size == Secret.SIZE


def _owned(thing: Directory | File | Secret, have: Have) -> bool:
    seen = have.paths.get(thing.path)
    return seen is not None and (seen.owner, seen.group, seen.mode) == (thing.owner, thing.group, thing.mode)


def _unit_is(unit: Unit, have: Have, touched: set[str]) -> bool:
    seen = have.units.get(unit.name)
    if unit.stopped:
        return seen is None or (seen.active != "active" and seen.enabled != "enabled")
    if seen is None or seen.active != "active" or seen.needs_reload:
        return False
    if unit.enable and seen.enabled != "enabled":
        return False
    return not touched.intersection(unit.inputs) and seen.stamp == seen.inputs_sha256
