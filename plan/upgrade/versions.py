"""Versions of programs: their order, what a host has installed, and which ways from one to another are allowed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from plan.engine.errors import SettingError

#: Programs with a version of their own, in the order in which a deployment upgrades them.
PROGRAMS = ("headscale", "tailscale", "ollama", "openclaw")
#: Program -> the link on a host whose target names the program's folder. OpenClaw's is a line of its container.
LINKS = {
    "headscale": "/usr/local/bin/headscale",
    "tailscale": "/usr/local/sbin/tailscaled",
    "ollama": "/usr/local/bin/ollama",
}
#: The description of OpenClaw's container, whose folder has the number of its account.
CONTAINER = "/etc/containers/systemd/users/*/openclaw.container"
#: A shell command that prints what `parse_installed` reads. Of a program that is not there it prints nothing.
INSTALLED = (
    f"{{ readlink -- {' '.join(LINKS.values())}; grep -h '^Image=localhost/openclaw:' {CONTAINER}; }} 2>/dev/null || :"
)
#: Older versions have known ways in that no later fix of ours closes (the security records of these programs).
MINIMUM = {"ollama": "0.21"}

_FOLDER = re.compile(r"/opt/private-ai/(headscale|tailscale|ollama)-([\w.+~-]+)-([0-9a-f]{12})/\S+")
_IMAGE = re.compile(r"Image=localhost/(openclaw):([\w.+~-]+)-([0-9a-f]{12})")


@dataclass(frozen=True)
class Installed:
    """A program as a host starts it now. `digest`: of its content, 12 hexadecimal digits."""

    program: str
    version: str
    digest: str


@dataclass(frozen=True)
class Step:
    """A program of a host that has another version than the one that this run deploys."""

    host: str
    program: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.program} {self.old} -> {self.new}"

    @property
    def forward(self) -> bool:
        return order(self.new) > order(self.old)


def order(version: str) -> tuple[int, ...]:
    """A version as numbers that can be compared: (1, 102, 3) for "1.102.3". What follows the numbers does not count.

    Raises ValueError for a text without a number at its beginning.
    """
    found = re.match(r"v?(\d{1,9}(?:\.\d{1,9})*)", version)
    if not found:
        raise ValueError(f"{version!r} is no version")
    return tuple(map(int, found[1].split(".")))


def parse_installed(lines: Iterable[str]) -> tuple[Installed, ...]:
    """The programs from INSTALLED's output. A program of other people in the place of ours is left out, and so is a
    version that has no number."""
    found = []
    for line in lines:
        match = _FOLDER.fullmatch(line) or _IMAGE.fullmatch(line)
        if match and re.match(r"v?\d", match[2]):
            found.append(Installed(*match.groups()))
    return tuple(found)


def steps(host: str, installed: Iterable[Installed], pinned: Mapping[str, str]) -> tuple[Step, ...]:
    """What changes its version on a host. `pinned`: program -> version, of the programs that the host is to have.

    Another build of the same version is no upgrade, and neither is a program that is not there yet.
    """
    there = {each.program: each.version for each in installed}
    return tuple(
        Step(host, name, there[name], pinned[name])
        for name in PROGRAMS
        if name in there and name in pinned and there[name] != pinned[name]
    )


def refusals(wanted: Iterable[Step], inventory: str) -> list[SettingError]:
    """The steps that are not allowed, before anything has changed. `inventory`: the file's name, for the next step."""
    return [problem for step in wanted if (problem := _refusal(step, inventory))]


def _refusal(step: Step, inventory: str) -> SettingError | None:
    what, found = f"host {step.host}: upgrade of {step.program}", f"{step.old} -> {step.new}"
    old, new = order(step.old), order(step.new)
    if new < old:
        return SettingError(
            what,
            found,
            f"{step.old} or newer: an older version may not be able to read the data of a newer one",
            "take this project's revision that has the newer pin (git pull, git checkout). To have the version from "
            f"before the last upgrade, with its data: {go_back_command(inventory, step.program, step.host)}",
        )
    if step.program in MINIMUM and new < order(MINIMUM[step.program]):
        accepted = f"{MINIMUM[step.program]} or newer, since older versions have known holes"
        return SettingError(what, found, accepted, "correct the pin in artifacts/pins.yaml")
    if step.program == "headscale" and _skips_a_minor(old, new):
        following = f"{old[0]}.{old[1] + 1}" if len(old) > 1 else "the next one"
        return SettingError(
            what,
            found,
            f"one minor version after the other ({following} comes next): Headscale changes its database in each, and "
            "refuses one that is older",
            f"deploy this project's revision whose artifacts/pins.yaml has Headscale {following}.x (git log -p "
            "artifacts/pins.yaml), then this one",
        )
    return None


def _skips_a_minor(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """docs/setup/upgrade of Headscale; 0.29.3 refuses a database of 0.27, and names 0.28 (tried)."""
    before, after = (*old, 0)[:2], (*new, 0)[:2]
    return before[0] != after[0] or after[1] - before[1] > 1


def go_back_command(inventory: str, program: str, host: str) -> str:
    """The command that puts the version from before the last upgrade back, for people to copy."""
    return f"pyinfra {shlex.quote(inventory)} playbooks/go_back.py --data program={program} --data on={host}"
