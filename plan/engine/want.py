"""What a component wants on a host, as plain data: packages, accounts, programs, files, links, units.

Nothing here knows a host. `facts.engine.component_state` reports what a host has, `plan.engine.difference` compares the
two, and `operations.engine.component` carries the difference out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

#: Bit of a file's mode.
EVERYBODY_READS = 0o004
#: The end of the name of a file that is being sent, and the minutes for which the next run can go on with it.
BEGUN = ".part"
BEGUN_MINUTES = 1440


@dataclass(frozen=True)
class Account:
    """A system account without a password, a login shell or groups but its own.

    Owns: its existence, its groups, subordinate ids, lingering.
    """

    name: str
    home: str
    #: Rootless containers need subordinate ids and a systemd user manager that runs without a login.
    runs_containers: bool = False


@dataclass(frozen=True)
class Directory:
    """A directory with its owner and mode. Its content is not managed. `empty`: nothing may be in it, but a file
    that is being sent, for BEGUN_MINUTES."""

    path: str
    owner: str = "root"
    group: str = "root"
    mode: str = "0755"
    empty: bool = False


@dataclass(frozen=True)
class File:
    """A file with exactly this content. `check` is a shell command that must succeed for `{}`, the new file
    in its place beside the old one, before the old one is replaced.

    `shown` says whether people may see the content, this one and the one on the host, when they differ. None: if every
    account of the host may read the file. Most files that are closed hold no secret as we write them, but are where
    programs look for secrets, so somebody may have put one in.
    """

    path: str
    content: str = field(repr=False)
    owner: str = "root"
    group: str = "root"
    mode: str = "0644"
    check: str = ""
    shown: bool | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()

    @property
    def may_be_shown(self) -> bool:
        return bool(int(self.mode, 8) & EVERYBODY_READS) if self.shown is None else self.shown


@dataclass(frozen=True)
class Effect:
    """What has to follow from the file at `path`: `command` is run when the file was changed, or when `check`, a shell
    command that only reads, does not succeed. So it is not lost when a run ends between the two."""

    path: str
    check: str
    command: str


@dataclass(frozen=True)
class Secret:
    """A file with 256 random bits as 64 hexadecimal digits, made on the host that uses it and never read by the
    deployment."""

    path: str
    owner: str
    group: str
    mode: str = "0400"

    SIZE = 64


@dataclass(frozen=True)
class Block:
    """Lines of a file that others own too, between two marker lines. Owns: what stands between the markers.

    People may see the lines: they are no place for a secret.
    """

    path: str
    name: str
    lines: tuple[str, ...]

    @property
    def begin(self) -> str:
        return f"# private-ai {self.name}: begin"

    @property
    def end(self) -> str:
        return f"# private-ai {self.name}: end"

    @property
    def text(self) -> str:
        return "\n".join((self.begin, *self.lines, self.end)) + "\n"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class ProgramPart:
    """One file of a program: where it goes below the prefix, where it is on the controller. `link`: a symbolic link."""

    path: str
    local: Path
    sha256: str
    size: int
    mode: str
    link: str = ""


@dataclass(frozen=True)
class Program:
    """A versioned, never changing folder below /opt/private-ai, and links to it from the usual places."""

    name: str
    version: str
    parts: tuple[ProgramPart, ...]
    #: Path of the link on the host -> path below the prefix.
    links: tuple[tuple[str, str], ...] = ()

    @property
    def prefix(self) -> str:
        """The folder's name holds a digest of its content, so another build of the same version is another folder."""
        digest = hashlib.sha256("".join(f"{p.path} {p.sha256}{p.link}\n" for p in self.parts).encode())
        return f"/opt/private-ai/{self.name}-{self.version}-{digest.hexdigest()[:12]}"


@dataclass(frozen=True)
class Unit:
    """A systemd unit that is enabled and running, and was started after the last change of its `inputs`.

    `inputs` are paths on the host. Their digest is kept in a stamp once the unit has started well, so a run that
    was interrupted between writing a file and restarting the unit is finished by the next one.
    `ready` is a shell command tried until it succeeds, for `ready_seconds` at most; `then` one that is run once after
    that, whose failure is none of the unit. `user` names the account whose
    systemd manager owns the unit. Generated units (Quadlet) cannot be enabled: `enable=False`.
    """

    name: str
    inputs: tuple[str, ...] = ()
    ready: str = ""
    ready_seconds: int = 60
    then: str = ""
    enable: bool = True
    user: str = ""
    #: A shell command, run as `user`, whose output belongs to the inputs: what the unit has put in force, where that
    #: can be changed behind its back.
    in_force: str = ""
    #: Reload a running unit instead of restarting it.
    reload: bool = False
    #: Stopped and disabled rather than running.
    stopped: bool = False


@dataclass(frozen=True)
class Component:
    """Everything a component wants on one host, applied in the order of the fields."""

    packages: tuple[str, ...] = ()
    accounts: tuple[Account, ...] = ()
    programs: tuple[Program, ...] = ()
    directories: tuple[Directory, ...] = ()
    files: tuple[File, ...] = ()
    secrets: tuple[Secret, ...] = ()
    blocks: tuple[Block, ...] = ()
    effects: tuple[Effect, ...] = ()
    units: tuple[Unit, ...] = ()


def merged(components: Iterable[Component]) -> Component:
    """One component that wants what all of some want. Of two that want one unit, block or effect in two ways the first
    counts; `covers` tells the other."""
    every, found = tuple(components), {}
    for each in fields(Component):
        things: dict[object, object] = {}
        for component in every:
            for thing in getattr(component, each.name):
                things.setdefault(_known_by(thing), thing)
        found[each.name] = tuple(things.values())
    return Component(**found)  # type: ignore[arg-type]


def covers(wide: Component, narrow: Component) -> bool:
    """Whether all that the narrow component wants is wanted by the wide one in the same way."""
    return all(set(getattr(narrow, each.name)) <= set(getattr(wide, each.name)) for each in fields(Component))


def in_parts(component: Component) -> list[Component]:
    """A component in parts that are worth asking side by side: the system's units, each account's, and all else."""
    users = dict.fromkeys(unit.user for unit in component.units)
    units = [Component(units=tuple(unit for unit in component.units if unit.user == user)) for user in users]
    rest = replace(component, units=())
    return [rest, *units] if rest != Component() else units


def _known_by(thing: object) -> object:
    """What a host tells a thing by; of the others it tells everything by the path or name, whatever is wanted there."""
    if isinstance(thing, Block):
        return thing.path, thing.name
    if isinstance(thing, Effect):
        return thing.path
    return thing.name if isinstance(thing, Unit) else thing


@dataclass(frozen=True)
class SeenPath:
    """A path as it is: `kind` as `stat -c %F` says it, `mode` as four octal digits, `written` in seconds since 1970."""

    kind: str
    owner: str
    group: str
    mode: str
    size: int
    sha256: str = ""
    target: str = ""
    written: int = 0

    @property
    def open(self) -> bool:
        """Whether every account may read it."""
        return bool(int(self.mode, 8) & EVERYBODY_READS)


@dataclass(frozen=True)
class SeenUnit:
    """A unit as it is; `inputs_sha256` over its inputs now, `stamp` the same when it was last started well, `started`
    when its program was, in seconds since 1970; 0 when it runs none."""

    load: str
    active: str
    enabled: str
    needs_reload: bool
    inputs_sha256: str
    stamp: str
    started: int = 0


@dataclass(frozen=True)
class Have:
    """What a host has of what was asked; absent things are missing from the mappings."""

    packages: frozenset[str] = frozenset()
    accounts: dict[str, int] = field(default_factory=dict)
    #: Account -> the groups it is in.
    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    subids: frozenset[str] = frozenset()
    lingering: frozenset[str] = frozenset()
    paths: dict[str, SeenPath] = field(default_factory=dict)
    #: Directories with something in them, of those that were looked into.
    filled: frozenset[str] = frozenset()
    #: Paths of the effects that have taken place.
    effects: frozenset[str] = frozenset()
    #: Path and name of a block -> digest of it with its markers.
    blocks: dict[tuple[str, str], str] = field(default_factory=dict)
    units: dict[str, SeenUnit] = field(default_factory=dict)


def united(haves: Iterable[Have]) -> Have:
    """What a host has, told in parts."""
    found = Have()
    for have in haves:
        found = Have(**{each.name: getattr(found, each.name) | getattr(have, each.name) for each in fields(Have)})
    return found
