"""Reads in one remote command what a host has of the things that a component wants."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from plan.engine.command_environment import FOREIGN_TO_PODMAN, PODMAN
from plan.engine.errors import AGAIN, STRANGE, shown
from plan.engine.want import BEGUN, BEGUN_MINUTES, Block, Component, Have, SeenPath, SeenUnit, Unit

#: The folder for stamps: after a unit has started without an error, the digest of its inputs is kept here.
STAMPS = "/var/lib/private-ai/stamps"


#: A host runs this very often, so it uses the shell's own `read` instead of another program, such as `cut`.
_DIGEST = 'sha256sum | { read -r digest _ && echo "$digest"; }'

#: A line of `systemctl show`.
_PROPERTY = re.compile(r"[A-Za-z]+=(?:[a-z-]*|@[0-9]+)")


def unit_call(unit_user: str, verb: str) -> str:
    """`systemctl VERB`, in the system's manager or in that of an account."""
    if unit_user:
        return f"systemctl --user --machine={shlex.quote(unit_user)}@ {verb}"
    return f"systemctl {verb}"


def through_manager(account: str, command: str) -> str:
    """Runs a command as an account that has lingering on, inside the account's systemd manager. Podman needs that."""
    without = f"--setenv={PODMAN} --property=UnsetEnvironment='{' '.join(FOREIGN_TO_PODMAN)}'"
    return f"systemd-run --quiet --user --machine={shlex.quote(account)}@ {without} --pipe --wait --collect {command}"


def looking(account: str, command: str) -> str:
    """A read-only command with an account's rights and with the account's runtime folder.

    Going through the account's manager (systemd-run, systemctl --machine) would take longer than the command itself.
    """
    name = shlex.quote(account)
    become = f"setpriv --reuid={name} --regid={name} --init-groups --reset-env"
    return f'{become} env --chdir=/ {PODMAN} XDG_RUNTIME_DIR="/run/user/$(id -u {name})" {command}'


def units_shown(user: str, names: Sequence[str]) -> str:
    """A command that prints the state of units of the system's systemd, or of an account's: lines NAME=VALUE, with an
    empty line between two units."""
    properties = "LoadState,ActiveState,UnitFileState,NeedDaemonReload,ExecMainStartTimestamp"
    shown = f"show --timestamp=unix -p {properties} -- {' '.join(map(shlex.quote, names))}"
    return looking(user, f"systemctl --user {shown}") if user else f"systemctl {shown}"


def inputs_digest(unit: Unit, as_account: Callable[[str, str], str] = looking) -> str:
    """A shell command that prints one digest of the names and contents of a unit's inputs. A missing input counts too.

    `as_account`: makes a command that runs with the rights of the unit's account, if the unit has one.
    """
    quoted = " ".join(shlex.quote(path) for path in unit.inputs)
    if not quoted:
        return "printf none"
    asked = as_account(unit.user, unit.in_force) if unit.user and unit.in_force else unit.in_force
    in_force = f"{asked}; " if asked else ""
    # The targets of links are part of the digest, because a program's link names its version and content. `|| :`: most
    # inputs are no links, so readlink fails for them, and a script that stops at errors must print the same digest.
    return f"{{ sha256sum -- {quoted} || :; readlink -- {quoted} || :; {in_force}}} 2>&1 | {_DIGEST}"


def block_text(block: Block) -> str:
    """A shell command that prints a block with its marker lines."""
    return f"sed -n '/{block.begin}\\r*$/,/^{block.end}\\r*$/p' {shlex.quote(block.path)}"


def left_over(path: str) -> str:
    """A `find` command, without an action, for the things that may not be in a directory that must be empty. `path`
    must be quoted already."""
    return f"find {path} -mindepth 1 ! '(' -type f -name '*{BEGUN}' -mmin -{BEGUN_MINUTES} ')'"


class ComponentState(FactBase[Have]):
    """The state of all that one component wants. Cost: one remote command."""

    def command(self, component: Component) -> str:
        lines: list[str] = []
        if component.packages:
            names = " ".join(map(shlex.quote, component.packages))
            lines.append(
                f"dpkg-query -W -f 'package ${{Package}} ${{db:Status-Status}}\\n' {names} 2>/dev/null || true"
            )
        if component.accounts:
            names = " ".join(shlex.quote(account.name) for account in component.accounts)
            lines.append(f"getent passwd {names} | sed 's/^/account /'")
        for account in component.accounts:
            name = shlex.quote(account.name)
            lines.append(f"printf 'groups %s %s\\n' {name} \"$(id -Gn {name} 2>/dev/null)\"")
            if account.runs_containers:
                both = f"grep -ls ^{name}: /etc/subuid /etc/subgid | {{ read -r _ && read -r _; }}"
                lines.append(f"{both} && echo subids {name}")
                lines.append(f"test -e /var/lib/systemd/linger/{name} && echo lingering {name}")
        paths = [d.path for d in component.directories] + [f.path for f in component.files]
        paths += [secret.path for secret in component.secrets]
        for program in component.programs:
            paths.append(program.prefix)
            paths.extend(link for link, _ in program.links)
        if paths:
            quoted = " ".join(map(shlex.quote, paths))
            lines.append(f"stat -c 'path %n|%F|%U|%G|%04a|%s|%Y' -- {quoted} 2>/dev/null")
        for directory in component.directories:
            if directory.empty:
                path = shlex.quote(directory.path)
                lines.append(
                    f"test -z \"$({left_over(path)} -print -quit 2>/dev/null)\" || printf 'filled %s\\n' {path}"
                )
        if links := [shlex.quote(link) for program in component.programs for link, _ in program.links]:
            lines.append(f"find {' '.join(links)} -maxdepth 0 -type l -printf 'link %p|%l\\n' 2>/dev/null")
        if component.files:
            quoted = " ".join(shlex.quote(f.path) for f in component.files)
            lines.append(f"sha256sum -- {quoted} 2>/dev/null | sed 's/^/sha256 /'")
        for block in component.blocks:
            digest = f"{block_text(block)} | {_DIGEST}"
            named = f"{shlex.quote(block.path)} {shlex.quote(block.name)}"
            lines.append(f"printf 'block %s|%s|%s\\n' {named} \"$({digest})\"")
        for effect in component.effects:
            path = shlex.quote(effect.path)
            lines.append(f"if {effect.check}; then printf 'effect %s\\n' {path}; fi")
        # The units run in parallel (`&`), because inputs may be large and an account's systemd slow. printf writes each
        # line in one go, so lines do not mix.
        for unit in component.units:
            stamp = shlex.quote(f"{STAMPS}/{unit.name}")
            lines.append(
                f"printf 'unit %s|%s|%s\\n' {shlex.quote(unit.name)} \"$({inputs_digest(unit)})\""
                f' "$(stamp=; {{ read -r stamp <{stamp}; }} 2>/dev/null; echo "$stamp")" &'
            )
        for user in dict.fromkeys(unit.user for unit in component.units):
            of_user = [unit.name for unit in component.units if unit.user == user]
            lines.append(f"echo units {' '.join(map(shlex.quote, of_user))}")
            lines.append(f"{units_shown(user, of_user)} 2>/dev/null")
        lines.append("wait")
        lines.append("echo end")
        return "\n".join(lines)

    def process(self, output: list[str]) -> Have:
        if not output or output[-1] != "end":
            raise FactProcessError(f"the state of a component was cut short: {shown(output[-1:])}. {AGAIN}")
        try:
            return _have(output[:-1])
        except STRANGE as error:
            raise FactProcessError(f"the state of a component is not understood: {shown(error)}. {AGAIN}") from error


def _have(output: list[str]) -> Have:
    packages: set[str] = set()
    accounts: dict[str, int] = {}
    groups: dict[str, frozenset[str]] = {}
    subids: set[str] = set()
    lingering: set[str] = set()
    raw: dict[str, list[str]] = {}
    digests: dict[str, str] = {}
    targets: dict[str, str] = {}
    filled: set[str] = set()
    effects: set[str] = set()
    blocks: dict[tuple[str, str], str] = {}
    stamps: dict[str, tuple[str, str]] = {}
    shown: dict[str, dict[str, str]] = {}
    being_shown: list[str] = []
    for line in output:
        word, _, rest = line.partition(" ")
        if word == "package":
            name, _, status = rest.partition(" ")
            if status == "installed":
                packages.add(name)
        elif word == "account":
            fields = rest.split(":")
            accounts[fields[0]] = int(fields[2])
        elif word == "groups":
            name, *members = rest.split()
            if members:
                groups[name] = frozenset(members)
        elif word == "subids":
            subids.add(rest)
        elif word == "lingering":
            lingering.add(rest)
        elif word == "path":
            path, *details = rest.split("|")
            raw[path] = details
        elif word == "link":
            path, _, target = rest.partition("|")
            targets[path] = target
        elif word == "filled":
            filled.add(rest)
        elif word == "sha256":
            digest, _, path = rest.partition("  ")
            digests[path] = digest
        elif word == "effect":
            effects.add(rest)
        elif word == "block":
            path, name, digest = rest.split("|")
            blocks[path, name] = digest
        elif word == "units":
            being_shown = rest.split(" ")
        elif not line:
            being_shown = being_shown[1:]
        elif _PROPERTY.fullmatch(line):
            name, _, value = line.partition("=")
            shown.setdefault(being_shown[0], {})[name] = value
        elif word == "unit":
            name, digest, stamp = rest.split("|")
            stamps[name] = digest, stamp
        else:
            raise ValueError(f"the line {line!r}")
    paths = {
        path: SeenPath(
            kind=kind,
            owner=owner,
            group=group,
            mode=mode.zfill(4),
            size=int(size),
            sha256=digests.get(path, ""),
            target=targets.get(path, ""),
            written=int(written),
        )
        for path, (kind, owner, group, mode, size, written) in raw.items()
    }
    return Have(
        packages=frozenset(packages),
        accounts=accounts,
        groups=groups,
        subids=frozenset(subids),
        lingering=frozenset(lingering),
        paths=paths,
        filled=frozenset(filled),
        effects=frozenset(effects),
        blocks=blocks,
        units={name: _unit(shown.get(name, {}), digest, stamp) for name, (digest, stamp) in stamps.items()},
    )


def _unit(shows: dict[str, str], digest: str, stamp: str) -> SeenUnit:
    return SeenUnit(
        load=shows.get("LoadState", ""),
        active=shows.get("ActiveState", ""),
        enabled=shows.get("UnitFileState", ""),
        needs_reload=shows.get("NeedDaemonReload") == "yes",
        inputs_sha256=digest,
        stamp=stamp,
        # Sockets and timers run no program, so systemd gives no time for them.
        started=int(shows.get("ExecMainStartTimestamp", "").removeprefix("@") or 0),
    )
