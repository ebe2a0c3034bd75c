"""Going back to the version from before an upgrade: what is asked for, whether it can be had, what is lost by it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from plan.engine.errors import SettingError, nearest
from plan.engine.terminal_text import line
from plan.house.house import House
from plan.upgrade.notes import Note
from plan.upgrade.versions import PROGRAMS, Installed, Step

#: Role -> the program that its hosts have. All hosts have Tailscale.
ROLES = {"coordinator": "headscale", "model_hosts": "ollama", "gateway": "openclaw"}
#: Program -> what is lost by going back: all that has happened to its data since.
LOST = {
    "headscale": "users, devices and keys from since then. Devices that joined since have to join again. Devices that "
    "you removed since are back until the next deployment, so deploy at once",
    "tailscale": "the host's place in the VPN, if it has joined anew since then",
    "ollama": "nothing: models stay as they are",
    "openclaw": "conversations and settings of the assistant from since then. Browsers that you approved since have to "
    "be approved again. Browsers that you revoked since are approved again: look at them",
}


@dataclass(frozen=True)
class Asked:
    """A program and the host on which it is to go back."""

    program: str
    host: str


@dataclass(frozen=True)
class Kept:
    """What a host keeps of the version before. `missing`: what the way back needs and is not there any more.
    `revision`: of this project, that had deployed it; "" if that is not known."""

    missing: tuple[str, ...]
    revision: str


def asked(data: Mapping[str, str], house: House) -> Asked:
    """What was typed behind `--data`. Raises SettingError when it names no program or no host that has it."""
    program = data.get("program", "")
    if program not in PROGRAMS:
        accepted = f"one of {', '.join(PROGRAMS)}"
        raise SettingError("--data program", program, accepted, nearest(program, PROGRAMS, "see docs/upgrade.md"))
    hosts = _hosts(program, house)
    if "on" not in data and len(hosts) == 1:
        return Asked(program, hosts[0])
    if data.get("on") not in hosts:
        named = f"a host that has {program}: {', '.join(hosts)}"
        raise SettingError("--data on", data.get("on", ""), named, nearest(data.get("on"), hosts, "name one of them"))
    return Asked(program, data["on"])


def _hosts(program: str, house: House) -> list[str]:
    return [
        member.name
        for member in house.members
        if program == "tailscale" or any(ROLES.get(role) == program for role in member.roles)
    ]


def way_back(wanted: Asked, notes: Iterable[Note], installed: Iterable[Installed]) -> tuple[Step, Note]:
    """The step back, and the note of the upgrade that it undoes. Raises SettingError when there is no way back."""
    note = next((each for each in notes if each.program == wanted.program), None)
    there = next((each.version for each in installed if each.program == wanted.program), "")
    what = f"host {wanted.host}: the way back of {wanted.program}"
    accepted = "a program whose last upgrade on this host is done, and which has been upgraded since by nobody else"
    if note is None:
        raise SettingError(what, "none, since it was not upgraded", accepted, "make backup-check, see docs/backup.md")
    if note.at_work:
        raise SettingError(what, "at work", "an upgrade that has ended", "wait a minute, then run this again")
    if note.phase == "done" and note.new == there:
        return Step(wanted.host, note.program, note.new, note.old), note
    if note.phase in ("back", "stuck") and note.backward and note.old == there:
        # A way back that was itself taken back. All that it needs is still there.
        return Step(wanted.host, note.program, note.old, note.new), note
    found = f"none: {there or 'nothing'} runs, and the last upgrade, {note.old} -> {note.new}, is {_said(note)}"
    raise SettingError(
        what, found, accepted, "nothing has to be done, if that version runs well; else run the deployment"
    )


def _said(note: Note) -> str:
    return {"done": "done", "back": "taken back", "stuck": "taken back"}.get(note.phase, "cut off")


def lacking(wanted: Asked, kept: Kept) -> list[SettingError]:
    """A problem if the host has not all that the way back needs."""
    if not kept.missing:
        return []
    return [
        SettingError(
            f"host {wanted.host}: the way back of {wanted.program}",
            f"without {', '.join(kept.missing)}",
            "a host that still has the program of before",
            "deploy this project's revision that has the old pin on a host without this program, and restore a backup, "
            "see docs/backup.md",
        )
    ]


def told(step: Step, note: Note, kept: Kept) -> list[str]:
    """What a person is told before it begins."""
    return [
        f"{step.host}: {step.program} goes back from {step.old} to {step.new}, with its files and data of {note.at}",
        f"lost by that: {LOST[step.program]}",
        stay(step, kept),
    ]


def stay(step: Step, kept: Kept) -> str:
    """What a person does so that the next deployment does not upgrade again."""
    revision = line(kept.revision).removesuffix("+")
    known = f"git checkout {shlex.quote(revision)}" if revision not in ("", "unknown") else "git checkout REVISION"
    return f"this revision upgrades {step.program} again. To stay at {step.new}: {known}, and deploy that"
