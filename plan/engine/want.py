"""What a component wants on a host, as plain data: packages, accounts, programs, files, links, units.

This module has no contact with a host. `facts.engine.component_state` asks what a host has, `plan.engine.difference`
compares the two, and `operations.engine.component` makes the changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

#: The bit in a file's mode that lets every account read the file.
EVERYBODY_READS = 0o004
#: The end of the name of a file that has not arrived completely, and how many minutes later a run still continues it.
BEGUN = ".part"
BEGUN_MINUTES = 1440


@dataclass(frozen=True)
class Account:
    """A system account without a password and a login shell, in no other group than its own.

    Owns: the account, its groups, subordinate ids, lingering.
    """

    name: str
    home: str
    #: Rootless containers need subordinate ids and a systemd user manager that runs without a login.
    runs_containers: bool = False


@dataclass(frozen=True)
class Directory:
    """A directory with its owner and mode. A run does not manage its content. `empty`: nothing may be in it, except a
    file that has not arrived completely and is younger than BEGUN_MINUTES."""

    path: str
    owner: str = "root"
    group: str = "root"
    mode: str = "0755"
    empty: bool = False


@dataclass(frozen=True)
class File:
    """A file with exactly this content. `check` is a shell command that must succeed before the new file replaces the
    old one; in it, `{}` stands for the path of the new file, which lies beside the old one.

    `shown` says whether `make diff` may show the wanted content and the content on the host. None: only if every
    account of the host may read the file. Most closed files have no secret in them as we write them. But programs look
    for secrets there, so somebody may have added one.
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
    """A command that has to be run after the file at `path` has changed. A run also runs `command` when `check`, a
    shell command that only reads, fails. So a later run does it when a run was interrupted between file and command."""

    path: str
    check: str
    command: str


@dataclass(frozen=True)
class Secret:
    """A file with 256 random bits as 64 hexadecimal digits. It is made on the host that uses it. The deployment never
    reads it."""

    path: str
    owner: str
    group: str
    mode: str = "0400"

    SIZE = 64


@dataclass(frozen=True)
class Block:
    """Lines in a file that other programs or people also write. Two marker lines enclose them. Owns: the lines between
    the markers.

    `make diff` shows the lines, so they must not contain a secret.
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
    """One file of a program. `path`: below the program's prefix on the host. `local`: on the controller. `link`: the
    target, if the file is a symbolic link."""

    path: str
    local: Path
    sha256: str
    size: int
    mode: str
    link: str = ""


@dataclass(frozen=True)
class Program:
    """A folder below /opt/private-ai for one version of a program, and links to it from the usual places. The folder's
    content never changes."""

    name: str
    version: str
    parts: tuple[ProgramPart, ...]
    #: Pairs: path of the link on the host, path below the prefix to which it leads.
    links: tuple[tuple[str, str], ...] = ()

    @property
    def prefix(self) -> str:
        """The program's folder. Its name has a digest of the content, so another build of the same version gets another
        folder."""
        digest = hashlib.sha256("".join(f"{p.path} {p.sha256}{p.link}\n" for p in self.parts).encode())
        return f"/opt/private-ai/{self.name}-{self.version}-{digest.hexdigest()[:12]}"


@dataclass(frozen=True)
class Unit:
    """A systemd unit that is enabled and running, and that was started after its `inputs` changed last.

    `inputs` are paths on the host. The host keeps their digest in a stamp after the unit has started without an error.
    So when a run was interrupted between writing a file and restarting the unit, the next run restarts it.
    `ready` is a shell command that a run repeats until it succeeds, for at most `ready_seconds`. `then` is a shell
    command that a run calls once after that; if it fails, the unit still counts as started. `final` is an exit status
    after which systemd does not start the unit again, and what people can do then. `user` is the account whose systemd
    manager has the unit; "" is the system's. Generated units (Quadlet) cannot be enabled: `enable=False`.
    """

    name: str
    inputs: tuple[str, ...] = ()
    ready: str = ""
    ready_seconds: int = 60
    then: str = ""
    final: tuple[int, str] | None = None
    enable: bool = True
    user: str = ""
    #: A shell command, run as `user`, whose output counts as an input. It shows what the unit has put in force, if
    #: somebody can change that without the unit's knowledge.
    in_force: str = ""
    #: Reload a running unit instead of restarting it.
    reload: bool = False
    #: The unit must be stopped and disabled.
    stopped: bool = False


@dataclass(frozen=True)
class Component:
    """All that a component wants on one host. A run makes the changes in the order of the fields."""

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
    """One component that wants all that the given components want. If two of them want the same unit, block or effect
    in different ways, the first one counts. `covers` is then false for the second."""
    every, found = tuple(components), {}
    for each in fields(Component):
        things: dict[object, object] = {}
        for component in every:
            for thing in getattr(component, each.name):
                things.setdefault(_known_by(thing), thing)
        found[each.name] = tuple(things.values())
    return Component(**found)  # type: ignore[arg-type]


def covers(wide: Component, narrow: Component) -> bool:
    """Whether the wide component wants all that the narrow one wants, in the same way."""
    return all(set(getattr(narrow, each.name)) <= set(getattr(wide, each.name)) for each in fields(Component))


def in_parts(component: Component) -> list[Component]:
    """Splits a component into parts that a host can answer in parallel: the system's units, the units of each account,
    and the rest."""
    users = dict.fromkeys(unit.user for unit in component.units)
    units = [Component(units=tuple(unit for unit in component.units if unit.user == user)) for user in users]
    rest = replace(component, units=())
    return [rest, *units] if rest != Component() else units


def _known_by(thing: object) -> object:
    """The key of a thing in a host's answer. Units, blocks and effects that are wanted in two ways have one key. For
    all other kinds the answer does not depend on what is wanted, so the thing itself is the key."""
    if isinstance(thing, Block):
        return thing.path, thing.name
    if isinstance(thing, Effect):
        return thing.path
    return thing.name if isinstance(thing, Unit) else thing


@dataclass(frozen=True)
class SeenPath:
    """A path on a host. `kind`: the words of `stat -c %F`. `mode`: four octal digits. `written`: seconds since 1970."""

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
    """A unit on a host. `inputs_sha256`: digest of its inputs now. `stamp`: the same digest at its last start without
    an error. `started`: when its program was started, in seconds since 1970; 0 when none is running."""

    load: str
    active: str
    enabled: str
    needs_reload: bool
    inputs_sha256: str
    stamp: str
    started: int = 0


@dataclass(frozen=True)
class Have:
    """What a host has of the things it was asked for. A thing that the host does not have is not in the mappings."""

    packages: frozenset[str] = frozenset()
    accounts: dict[str, int] = field(default_factory=dict)
    #: Account -> its groups.
    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    subids: frozenset[str] = frozenset()
    lingering: frozenset[str] = frozenset()
    paths: dict[str, SeenPath] = field(default_factory=dict)
    #: The directories that are not empty, of those for which the question asked this.
    filled: frozenset[str] = frozenset()
    #: Paths of the effects whose `check` succeeds.
    effects: frozenset[str] = frozenset()
    #: Path and name of a block -> digest of the block with its markers.
    blocks: dict[tuple[str, str], str] = field(default_factory=dict)
    units: dict[str, SeenUnit] = field(default_factory=dict)


def united(haves: Iterable[Have]) -> Have:
    """Joins the parts of a host's answer."""
    found = Have()
    for have in haves:
        found = Have(**{each.name: getattr(found, each.name) | getattr(have, each.name) for each in fields(Have)})
    return found
