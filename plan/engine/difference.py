"""Compares what a component wants with what a host has. The result also says in words what a run would do, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields

from plan.engine.want import Account, Block, Component, Directory, Effect, File, Have, Program, Secret, SeenPath, Unit

MISSING = "it is missing"
#: The digest of a missing block.
NOTHING = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Change:
    """One difference: `what` is the thing, `would` is what a run does to it ("installed"), `why` is the reason.

    `would` is empty when `what` is a whole sentence. `shown`: the file or block as wanted, if people may see both the
    wanted content and the content on the host.
    """

    what: str
    would: str = ""
    why: str = ""
    shown: File | Block | None = None

    def __str__(self) -> str:
        said = f"{self.what} would be {self.would}" if self.would else self.what
        return f"{said} ({self.why})" if self.why else said

    @property
    def brief(self) -> str:
        """The text that a run prints when it makes the change."""
        return f"{self.what}: {self.why}" if self.why else self.what


@dataclass(frozen=True)
class Difference:
    """What is missing or different on a host, in the order in which a run corrects it. `changes` has it in words."""

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
    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return any(getattr(self, part.name) for part in fields(self))


def difference(want: Component, have: Have) -> Difference:
    """What a run has to do so that the host has what `want` says. It is empty (false) when nothing differs."""
    packages = tuple(name for name in want.packages if name not in have.packages)
    accounts = {account: why for account in want.accounts if (why := _account(account, have))}
    programs = tuple(program for program in want.programs if program.prefix not in have.paths)
    links = {
        (link, f"{program.prefix}/{target}"): why
        for program in want.programs
        for link, target in program.links
        if (why := _link(f"{program.prefix}/{target}", have.paths.get(link)))
    }
    directories = {directory: why for directory in want.directories if (why := _path(directory, have))}
    files = {file: why for file in want.files if (why := _path(file, have))}
    secrets = {secret: why for secret in want.secrets if (why := _path(secret, have))}
    blocks = tuple(block for block in want.blocks if have.blocks.get((block.path, block.name)) != block.sha256)
    changed = [file.path for file in files]
    effects = tuple(each for each in want.effects if each.path in changed or each.path not in have.effects)
    touched = {*changed, *(link for link, _ in links), *(secret.path for secret in secrets)}
    # A run gives its files a date in 1970, so somebody else has written a file with a later date.
    written = {file.path: seen.written for file in want.files if (seen := have.paths.get(file.path))}
    units = {unit: why for unit in want.units if (why := _unit(unit, have, touched, written))}
    changes = (
        *(Change(f"package {name}", "installed", MISSING) for name in packages),
        *(Change(f"account {account.name}", _account_would(account, have), why) for account, why in accounts.items()),
        *(Change(f"program {program.name} {program.version}", "installed", MISSING) for program in programs),
        *(Change(f"link {link}", f"set to {target}", why) for (link, target), why in links.items()),
        *(
            Change(f"directory {directory.path}", _would(directory, have), why)
            for directory, why in directories.items()
        ),
        *(_file_change(file, why, have.paths.get(file.path)) for file, why in files.items()),
        *(Change(f"secret {secret.path}", _would(secret, have), why) for secret, why in secrets.items()),
        *(_block_change(block, have) for block in blocks),
        *(_effect_change(effect, changed) for effect in effects),
        *(Change(f"unit {unit.name}", _unit_would(unit, have), why) for unit, why in units.items()),
    )
    return Difference(
        packages,
        tuple(accounts),
        programs,
        tuple(links),
        tuple(directories),
        tuple(files),
        tuple(secrets),
        blocks,
        effects,
        tuple(units),
        changes,
    )


def _account(account: Account, have: Have) -> str:
    """Why an account is not as wanted; "" when it is. The functions below return their reasons in the same way."""
    if account.name not in have.accounts:
        return MISSING
    if have.groups.get(account.name) != frozenset({account.name}):
        return "it is in other groups than its own"
    if not account.runs_containers:
        return ""
    if account.name not in have.subids:
        return "it has no subordinate ids"
    return "" if account.name in have.lingering else "lingering is off"


def _account_would(account: Account, have: Have) -> str:
    return "corrected" if account.name in have.accounts else "made"


def _link(target: str, seen: SeenPath | None) -> str:
    if seen is None:
        return MISSING
    if not seen.target:
        return f"it is a {seen.kind}"
    return "" if seen.target == target else f"it leads to {seen.target}"


def _path(thing: Directory | File | Secret, have: Have) -> str:
    seen = have.paths.get(thing.path)
    if seen is None:
        return MISSING
    said = []
    if (seen.kind == "directory") != isinstance(thing, Directory) or seen.kind == "symbolic link":
        said.append(f"it is a {seen.kind}")
    elif isinstance(thing, Directory) and thing.empty and thing.path in have.filled:
        said.append("it is not empty")
    elif isinstance(thing, File) and seen.sha256 != thing.sha256:
        said.append(f"its content differs{'' if _shown(thing, seen) else ' and is not shown'}")
    elif isinstance(thing, Secret) and seen.size != Secret.SIZE:
        # A shorter secret was not made by a run, and somebody could guess it.
        said.append(f"it has {seen.size} digits instead of {Secret.SIZE}")
    said += [
        f"{name} {getattr(seen, name)} instead of {getattr(thing, name)}"
        for name in ("owner", "group", "mode")
        if getattr(seen, name) != getattr(thing, name)
    ]
    return ", ".join(said)


def _shown(file: File, seen: SeenPath) -> bool:
    """Whether people may see both contents. Somebody may have closed a file on the host and added a secret to it."""
    return file.may_be_shown and (file.shown is not None or seen.open)


def _file_change(file: File, why: str, seen: SeenPath | None) -> Change:
    comparable = seen and seen.kind.startswith("regular") and seen.sha256 != file.sha256 and _shown(file, seen)
    return Change(f"file {file.path}", "written", why, file if comparable else None)


def _would(thing: Directory | Secret, have: Have) -> str:
    if thing.path not in have.paths:
        return "made"
    if isinstance(thing, Secret) and have.paths[thing.path].size != Secret.SIZE:
        return "made anew"
    return "emptied" if thing.path in have.filled else "given its owner and mode"


def _block_change(block: Block, have: Have) -> Change:
    what = f"lines {block.name!r} in {block.path}"
    if have.blocks.get((block.path, block.name), NOTHING) == NOTHING:
        return Change(what, "added", "they are missing")
    return Change(what, "replaced", "they differ", block)


def _effect_change(effect: Effect, changed: list[str]) -> Change:
    why = f"{effect.path} differs" if effect.path in changed else f"{effect.path} has not taken effect"
    return Change(f"command {effect.command}", "run", why)


def _unit(unit: Unit, have: Have, touched: set[str], written: Mapping[str, int]) -> str:
    seen = have.units.get(unit.name)
    if unit.stopped:
        if seen is None or (seen.active != "active" and seen.enabled != "enabled"):
            return ""
        return "it is running" if seen.active == "active" else "it is enabled"
    if seen is None or seen.load == "not-found":
        return MISSING
    if seen.active != "active":
        return "it is stopped" if seen.active == "inactive" else f"it is {seen.active}"
    if seen.needs_reload:
        return "systemd has not read its changed files"
    if unit.enable and seen.enabled != "enabled":
        return "it is not enabled"
    differing = sorted(touched.intersection(unit.inputs))
    if differing:
        return f"{', '.join(differing)} differ{'' if differing[1:] else 's'}"
    if seen.stamp != seen.inputs_sha256:
        return "no run has started it with its current inputs"
    # The file has the wanted content again, but the running program may have read another content. This does not apply
    # to a unit that is reloaded: its start time stays the same.
    late = [path for path in unit.inputs if written.get(path, 0) > seen.started > 0 and not unit.reload]
    return f"it was started before {late[0]} was last written" if late else ""


def _unit_would(unit: Unit, have: Have) -> str:
    seen = have.units.get(unit.name)
    if unit.stopped:
        return "stopped"
    if seen is None or seen.active != "active":
        return "started"
    return "reloaded" if unit.reload else "restarted"
