"""A restore: which parts of a backup go to which hosts, whether the programs of today can read them, and the note on a
host that says how far it is."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network
from typing import Literal

from plan.backup.manifest import Manifest, Part
from plan.engine.errors import STRANGE, SettingError, nearest
from plan.engine.ip_addresses import is_address
from plan.engine.terminal_text import line
from plan.house.house import House

#: On a host: which backup is being restored there, and how far it is. The deployment removes it at its end.
RESTORED = "/var/lib/private-ai/restored"
#: Roles whose hosts have something that cannot be made again.
ROLES = ("coordinator", "gateway")
#: `files`: not all of them are in their places. `deploy`: they are, and no deployment has ended since.
Phase = Literal["files", "deploy"]


@dataclass(frozen=True)
class Restored:
    """The note in RESTORED. `authority`: SHA-256 of the CA's certificate, in hexadecimal digits."""

    phase: Phase
    house: str
    made: datetime
    authority: str
    roles: tuple[str, ...]

    @property
    def text(self) -> str:
        """The file's content: one line."""
        made = self.made.isoformat(timespec="seconds")
        raw = {"phase": self.phase, "house": self.house, "made": made, "authority": self.authority}
        return json.dumps({**raw, "roles": list(self.roles)}) + "\n"


def parse_restored(text: str) -> Restored | None:
    """The note; None when there is none. Text that is not understood is a restore that was cut off."""
    if not text.strip():
        return None
    try:
        raw = json.loads(text)
        phase: Phase = "deploy" if raw["phase"] == "deploy" else "files"
        made = datetime.fromisoformat(raw["made"])
        return Restored(phase, str(raw["house"]), made, str(raw["authority"]), tuple(map(str, raw["roles"])))
    except STRANGE:
        return Restored("files", "", datetime.fromisoformat("1970-01-01T00:00:00+00:00"), "", ())


@dataclass(frozen=True)
class Piece:
    """What a host gets of one part of a backup."""

    part: Part
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Targets:
    """Host of the inventory -> what it gets. `told`: in words, what is not restored, or under another name."""

    pieces: Mapping[str, tuple[Piece, ...]]
    told: tuple[str, ...]

    def roles(self, host: str) -> tuple[str, ...]:
        """The roles that a host is restored for."""
        return tuple(role for role in ROLES if any(role in piece.roles for piece in self.pieces[host]))


def asked_roles(data: Mapping[str, str]) -> tuple[str, ...]:
    """The roles to restore: those of `--data role=ROLE`, else both. Raises SettingError."""
    role = data.get("role")
    if role is None:
        return ROLES
    if role not in ROLES:
        accepted = f"{' or '.join(ROLES)}: other roles have nothing that cannot be made again"
        raise SettingError("--data role", role, accepted, nearest(role, ROLES, "leave it out for both"))
    return (role,)


def targets(manifest: Manifest, house: House, roles: Collection[str]) -> Targets:
    """Which host of the inventory gets what. A coordinator's part goes to the coordinator of the inventory, whatever it
    is called now. A gateway's goes to the gateway of its name, or to the only one. Raises SettingError for a role that
    no host gets."""
    pieces: dict[str, list[Piece]] = {}
    told: list[str] = []
    for role in (each for each in ROLES if each in roles):
        parts = {part.host: part for part in manifest.parts if role in part.roles}
        members = [member.name for member in house.with_role(role)]
        pairs = {name: name for name in members if name in parts}
        if len(parts) == len(members) == 1:
            pairs = {members[0]: next(iter(parts))}
        if not pairs:
            raise SettingError(
                f"backup: parts of a {role}",
                ", ".join(map(line, parts)) or "none",
                f"a part of {' or '.join(members)}",
                f"give the {role} of the inventory the name that it had, restore, and deploy",
            )
        for name, old in pairs.items():
            part = parts[old]
            known = pieces.setdefault(name, [])
            same = next((each for each in known if each.part == part), None)
            if same:
                known[known.index(same)] = Piece(part, (*same.roles, role))
            else:
                known.append(Piece(part, (role,)))
            if old != name:
                told.append(f"{name} gets what {line(old)} was as {role}")
                if role == "gateway":
                    told.append(f"browsers know the gateway as {line(old)}: each has to be approved again")
        told += [
            f"{name} is a {role} that the backup does not have; it begins anew" for name in members if name not in pairs
        ]
        told += [
            f"of {line(old)} nothing is restored: the inventory has no {role} of this name"
            for old in parts
            if old not in pairs.values()
        ]
    return Targets({name: tuple(each) for name, each in pieces.items()}, tuple(told))


def unfit(manifest: Manifest, pieces: Collection[Piece], pinned: Mapping[str, str]) -> list[SettingError]:
    """Versions with which the programs of today cannot go on. `pinned`: program -> version of this revision.

    Headscale refuses a database of a later minor version, and one of an earlier minor version than the one before
    (docs/setup/upgrade of Headscale). OpenClaw refuses a state of a later version, and migrates an older one itself.
    """
    problems = []
    step = f"use the revision that made the backup: git checkout {line(manifest.about.revision).rstrip('+')}"
    for piece in pieces:
        for role, program in (("coordinator", "headscale"), ("gateway", "openclaw")):
            had, now = piece.part.programs.get(program, ""), pinned[program]
            if role not in piece.roles or fits(program, had, now):
                continue
            accepted = (
                f"{now} of this revision, another patch of it, or the minor version before"
                if program == "headscale"
                else f"{now} of this revision, or an older one"
            )
            found = had or "no version"
            problems.append(SettingError(f"backup: {program} of {line(piece.part.host)}", found, accepted, step))
    return problems


def fits(program: str, had: str, now: str) -> bool:
    """Whether the version `now` of a program takes the state of the version `had`."""
    old, new = _numbers(had), _numbers(now)
    if old is None or new is None:
        return False
    if program == "headscale":
        return old[0] == new[0] and new[1] - old[1] in (0, 1)
    return old <= new


def _numbers(version: str) -> tuple[int, int, int] | None:
    form = re.fullmatch(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})", version)
    return (int(form[1]), int(form[2]), int(form[3])) if form else None


def stands(host: str, note: Restored | None, there: Collection[str], wanted: Restored) -> SettingError | None:
    """The error for a host that already has something which a restore would replace; None when it may go on.

    `there`: in words, what is there of the roles that are restored, and which services run. A restore of this house
    that was cut off goes on, and one that no deployment has followed may be made again.
    """
    if note and note.authority not in ("", wanted.authority):
        return SettingError(
            f"host {host}",
            f"restored for another house ({line(note.house)})",
            f"a host of the house {wanted.house}, or an empty one",
            "correct its address in the inventory, or reinstall it",
        )
    running = [each for each in there if each.endswith(" runs")]
    if running or (there and not note):
        return SettingError(
            f"host {host}",
            f"not empty: {', '.join(there)}",
            "a host without any of it: a restore never replaces what a house has",
            "if the house there is alive, nothing needs to be restored. To go back to the backup all the same, on it: "
            f"{set_aside(there)}; then run this again",
        )
    return None


def cut_off(host: str, note: Restored | None, command: str) -> SettingError | None:
    """The error, for a deployment, when a restore was cut off: half of a state is worse than none. `command` makes a
    restore."""
    if note is None or note.phase == "deploy":
        return None
    return SettingError(
        f"host {host}",
        f"a restore that was cut off ({RESTORED})",
        "a host whose restore is whole",
        f"{line(command)}, with the same --data as before; it begins again and does the rest",
    )


def set_aside(there: Collection[str]) -> str:
    """The commands, for people, that make room on a host and delete nothing."""
    commands = []
    if "headscale.service runs" in there:
        commands.append("systemctl disable --now headscale")
    if "openclaw.service runs" in there:
        commands.append("systemctl --user --machine=openclaw@ stop openclaw")
    commands += [f"mv {path} {path}.before" for path in there if path.startswith("/")]
    return "; ".join(commands)


def near(house: House, addresses: Collection[str]) -> tuple[str, ...]:
    """Those of `addresses` that are in a local network of the house's hosts: of 256 IPv4 addresses, or a /64."""
    own = {_network(address) for member in house.members for address in member.addresses}
    return tuple(address for address in addresses if _network(address) in own)


def _network(address: str) -> str:
    length = 64 if ":" in address else 24
    return str(ip_network(f"{address}/{length}", strict=False)) if is_address(address) else address
