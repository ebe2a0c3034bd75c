"""What goes from a host and what stays, from what the house has there (belongings.py) and what was found there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from plan.base.profile import Listener, Profile
from plan.engine.claims import CLAIMED, CLAIMS, PACKAGE
from plan.engine.terminal_text import line
from plan.house.house import House, Member
from plan.removal.belongings import (
    LAST,
    PROGRAM_FOLDER,
    PROGRAMS,
    SETTINGS,
    STATE,
    Part,
    packages_of,
    parts_of,
)
from plan.verification import is_loopback, is_vpn

#: Where Podman looks for the containers of accounts; packages may own it.
QUADLETS = "/etc/containers/systemd/users"


@dataclass(frozen=True)
class Found:
    """What a host has, of all that was asked for.

    `paths`: path -> its bytes, with all that is in it. `links`: link -> where it leads. `entries`: folder -> the paths
    directly in it. `mounts`: folder -> where something is mounted, at it or below. `accounts`: name -> number.
    `units`: those that systemd knows, with their state. `images`: of OpenClaw's account. `own` says whether the house's
    lines stand in /etc/hosts, whether its table is in force. `authorities`: names of the certificates of houses that
    the host trusts, `authority` the text of this house's.
    """

    paths: Mapping[str, int]
    links: Mapping[str, str]
    entries: Mapping[str, tuple[str, ...]]
    mounts: Mapping[str, tuple[str, ...]]
    accounts: Mapping[str, int]
    units: Mapping[str, str]
    images: tuple[str, ...]
    claimed: frozenset[str]
    names: bool
    table: bool
    authorities: tuple[str, ...]
    authority: str


@dataclass(frozen=True)
class Stays:
    """A path that is not removed, and why."""

    path: str
    size: int
    why: str


@dataclass(frozen=True)
class Emptied:
    """A folder of which some entries stay: their names."""

    path: str
    kept: tuple[str, ...]


@dataclass(frozen=True)
class PartLeaving:
    """What goes of one part. `accounts` are deleted, `idle` only lose their processes: files of theirs stay."""

    part: Part
    units: tuple[str, ...]
    paths: tuple[str, ...]
    emptied: tuple[Emptied, ...]
    accounts: tuple[str, ...]
    idle: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.units or self.paths or self.emptied or self.accounts)


@dataclass(frozen=True)
class Leaving:
    """What a removal does on one host. `noted` are the lines of the host's note of places taken, `note`
    those that stay."""

    host: str
    parts: tuple[PartLeaving, ...]
    stays: tuple[Stays, ...]
    opens: tuple[str, ...]
    packages: tuple[str, ...]
    note: tuple[str, ...]
    noted: tuple[str, ...]
    names: bool
    table: bool
    sizes: Mapping[str, int]
    images: tuple[str, ...]
    numbers: Mapping[str, int]

    def __bool__(self) -> bool:
        return bool(any(self.parts) or self.names or self.table)

    @property
    def forgets(self) -> bool:
        """Whether the host's note of places taken changes, and stays."""
        return bool(self.parts) and self.note != self.noted and all(part.part != LAST for part in self.parts)


def leaving(
    house: House, member: Member, found: Found, profile: Profile, roles: Collection[str], delete: bool
) -> Leaving:
    """What goes from a host with these `roles`, of which "all" is one. `delete`: also what people may want to keep."""
    parts, stays = list[PartLeaving](), list[Stays]()
    for part in parts_of(roles):
        if part.is_there(found.claimed):
            parts.append(_part(house, part, found, delete, stays))
    whole = "all" in roles
    if whole:
        stays += list(_strangers(found, parts, stays))
    note = _note(found.claimed, parts, stays, whole)
    if whole and note:
        *others, last = parts
        parts = [*others, replace(last, paths=tuple(path for path in last.paths if path != CLAIMED))]
        stays.append(Stays(CLAIMED, found.paths.get(CLAIMED, 0), "it says that what stays is the house's"))
    return Leaving(
        member.name,
        tuple(parts),
        tuple(stays),
        tuple(_opens(house, profile)) if whole and found.table else (),
        packages_of(found.claimed) if whole else (),
        note,
        tuple(sorted(found.claimed)),
        found.names and whole,
        found.table and whole,
        found.paths,
        found.images if any(part.part.role == "gateway" for part in parts) else (),
        found.accounts,
    )


def asked_paths(house: House, roles: Collection[str]) -> tuple[str, ...]:
    """The paths that a host is asked for; what depends on the number of an account is asked for there."""
    parts = parts_of(roles)
    files = [path for part in parts for path in (*part.all_files, *(f"{file}.new" for file in part.files))]
    folders = [folder for part in parts for folder in part.folders]
    data = [data.path for part in parts for data in part.data]
    return tuple(dict.fromkeys((*files, *folders, *data, *(authority_files(house) if "all" in roles else ()))))


def asked_folders(roles: Collection[str]) -> tuple[str, ...]:
    """The folders of which a host tells the entries, and what is mounted there."""
    own = [folder for part in parts_of(roles) for folder in part.folders]
    data = [data.path for part in parts_of(roles) for data in part.data]
    return tuple(dict.fromkeys((*own, *data, SETTINGS, STATE, PROGRAMS)))


def authority_files(house: House) -> tuple[str, str]:
    """The CA's certificate as every host has it, and the system's link to it."""
    name = f"private-ai-{house.name}"
    return f"/usr/local/share/ca-certificates/{name}.crt", f"/etc/ssl/certs/{name}.pem"


def quadlet(number: int) -> str:
    """The description of the container of the account with this number."""
    return f"{QUADLETS}/{number}/openclaw.container"


def _part(house: House, part: Part, found: Found, delete: bool, stays: list[Stays]) -> PartLeaving:
    paths, emptied = list[str](), list[Emptied]()
    for path in _files(house, part, found):
        why = _not_ours(path, found)
        if why:
            stays.append(Stays(path, found.paths[path], why))
        else:
            paths.append(path)
    kept_data = {each.path: each.what for each in part.data if not delete}
    known = set(part.folders) | {each.path for each in part.data}
    for folder in sorted(known):
        above = next((other for other in known if folder.startswith(f"{other}/")), "")
        if folder not in found.paths or above in found.paths:
            continue
        if folder in found.links:
            stays.append(Stays(folder, 0, f"a link to {found.links[folder]}: what it leads to is not touched"))
        elif why := _stays_whole(folder, found, kept_data):
            stays.append(Stays(folder, found.paths[folder], why))
        else:
            inside = _inside(folder, found, kept_data)
            stays += inside
            names = tuple(each.path.rpartition("/")[2] for each in inside)
            if not names:
                paths.append(folder)
            elif set(found.entries.get(folder, ())) - {each.path for each in inside}:
                emptied.append(Emptied(folder, names))
    used = {
        data.of
        for data in part.data
        for each in stays
        if _within(each.path, data.path) or _within(data.path, each.path)
    }
    there = tuple(name for name in part.accounts if name in found.accounts)
    return PartLeaving(
        part,
        tuple(unit for unit in part.units if unit in found.units),
        tuple(paths),
        tuple(emptied),
        tuple(name for name in there if name not in used),
        tuple(name for name in there if name in used),
    )


def _files(house: House, part: Part, found: Found) -> Iterator[str]:
    wanted = [path for file in part.all_files for path in (file, f"{file}.new")]
    if part.name == "OpenClaw":
        wanted += [quadlet(number) for name, number in found.accounts.items() if name in part.accounts]
    if part.role == "all" and not part.claim and part != LAST:
        wanted += authority_files(house)
    for name in part.programs:
        form = re.compile(f"{PROGRAMS}/{PROGRAM_FOLDER.format(name=re.escape(name))}")
        wanted += [path for path in found.entries.get(PROGRAMS, ()) if form.fullmatch(path)]
    sizes = {**dict.fromkeys(found.entries.get(PROGRAMS, ()), 0), **found.paths}
    yield from (path for path in wanted if path in sizes)


def _not_ours(path: str, found: Found) -> str:
    """Why a file is not the house's, by its place and by what it is; "" when it is."""
    claim = next((claim for claim in CLAIMS if path in claim.places), None)
    if claim and path not in found.claimed:
        return "it was there before the house"
    if path.startswith(("/usr/local/bin/", "/usr/local/sbin/")) and path in (claim.files if claim else ()):
        target = found.links.get(path)
        if target is None or not target.startswith(f"{PROGRAMS}/"):
            return "somebody has put another program there"
    return ""


def _stays_whole(folder: str, found: Found, kept: Mapping[str, str]) -> str:
    if folder in {place for claim in CLAIMS for place in claim.folders} - found.claimed:
        return "it was there before the house"
    if folder in found.mounts.get(folder, ()):
        return "a disk is mounted there; what is mounted is not touched"
    return kept.get(folder, "")


def _inside(folder: str, found: Found, kept: Mapping[str, str]) -> list[Stays]:
    """What stays of the entries of a folder."""
    inside = []
    for path in found.entries.get(folder, ()):
        mounted = [each for each in found.mounts.get(folder, ()) if _within(each, path)]
        if path in kept:
            inside.append(Stays(path, found.paths.get(path, 0), kept[path]))
        elif mounted:
            inside.append(Stays(path, 0, f"{mounted[0]} is mounted there; what is mounted is not touched"))
    return inside


def _strangers(found: Found, parts: Collection[PartLeaving], stays: Collection[Stays]) -> Iterator[Stays]:
    """What lies in the house's own folders and is not known to be the house's."""
    gone = {path for part in parts for path in part.paths}
    told = {each.path for each in stays}
    for folder in (SETTINGS, STATE, PROGRAMS):
        for path in found.entries.get(folder, ()):
            if path not in gone | told and not any(each.path == path for part in parts for each in part.emptied):
                yield Stays(path, found.paths.get(path, 0), "it is not the deployment's")


def _note(
    claimed: Collection[str], parts: Collection[PartLeaving], stays: Collection[Stays], whole: bool
) -> tuple[str, ...]:
    """What a host goes on to know as taken by the house: the places of other roles, and those where something stays."""
    gone = {place for part in parts for place in part.part.places}
    kept = {place for place in gone for each in stays if _within(each.path, place) and place in claimed}
    left = (set(claimed) - gone) | kept
    if whole and not kept:
        return ()
    return tuple(sorted(each for each in left if not whole or each in kept or each.startswith(PACKAGE)))


def _opens(house: House, profile: Profile) -> Iterator[str]:
    """Where programs of others listen that the house's rules kept apart from some or all."""
    own = {unit for claim in CLAIMS for unit in claim.units} | {"openclaw.service"}
    said = dict[str, None]()
    for each in profile.listeners:
        if each.unit not in own and not is_loopback(each.address) and not is_vpn(house, each.address):
            said[f"{each.port}/{each.proto} ({_named(each)})"] = None
    yield from sorted(said, key=lambda text: (int(text.partition("/")[0]), text))


def _named(listener: Listener) -> str:
    return line(listener.process or listener.unit or "the kernel")


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
