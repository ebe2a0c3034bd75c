"""Finds drop-ins and units of others that change the house's units.

Such a file may be harmless (a limit) or not (another listening address). Only a person can decide that. So a run that
finds one stops before any change. The error names the file, and has the commands that remove it.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping

from plan.backup.places import SERVICE as BACKUP_SERVICE
from plan.backup.places import TIMER as BACKUP_TIMER
from plan.engine.claims import claims_of
from plan.engine.errors import SettingError
from plan.house.house import Member

#: The folders in which systemd looks for units and drop-ins (systemd.unit(5)), except the packages' folders below
#: /usr/lib. The folders of ABOVE come before /etc/systemd/system; `systemctl set-property`, for example, writes there.
ABOVE = ("/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient")
SYSTEM = (*ABOVE, "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system")
#: The same for the systemd of the gateway's account. The account's own folders come before all others.
_HOME = "/var/lib/openclaw"
ABOVE_USER = (
    f"{_HOME}/.config/systemd/user",
    f"{_HOME}/.config/systemd/user.control",
    "/run/user/*/systemd/user.control",
    "/run/user/*/systemd/transient",
)
USER = (
    *ABOVE_USER,
    f"{_HOME}/.local/share/systemd/user",
    "/etc/systemd/user",
    "/run/systemd/user",
    "/usr/local/lib/systemd/user",
)
#: The folders in which Podman looks for the files from which it makes the container's unit (podman-systemd.unit(5)).
ABOVE_CONTAINER = (f"{_HOME}/.config/containers/systemd", "/run/user/*/containers/systemd")
CONTAINER = (*ABOVE_CONTAINER, "/etc/containers/systemd/users", "/etc/containers/systemd/users/*")

#: Role -> units of the system; below, role -> units of the gateway's account. private-ai-health-notify@.service is
#: missing on purpose: it runs an administrator's own program, so the administrator may change it.
SYSTEM_UNITS = {
    "all": (
        "private-ai-firewall.service",
        "private-ai-health.service",
        "private-ai-health.timer",
        "private-ai-names.path",
        "private-ai-names.service",
        "private-ai-renew.service",
        "private-ai-renew.timer",
        "tailscaled.service",
    ),
    "coordinator": ("headscale.service", BACKUP_SERVICE, BACKUP_TIMER),
    "gateway": (BACKUP_SERVICE, BACKUP_TIMER),
    "model_hosts": ("ollama.service", "ollama-vpn.service", "ollama-vpn.socket"),
}
USER_UNITS = {"gateway": ("openclaw.service", "openclaw-warm.service", "openclaw-warm.timer")}
CONTAINERS = {"gateway": ("openclaw.container",)}
#: Folders of drop-ins that systemd reads for every unit of a kind.
EVERY = ("service.d", "socket.d", "timer.d")
#: Unit -> the command that has it run without the removed file. A timer, and a unit that only a timer starts, need no
#: command. Nor does the firewall, because each run checks the rules in force.
_OPENCLAW = "systemctl --user --machine=openclaw@ restart openclaw.service"
AGAIN = {
    "headscale.service": "systemctl restart headscale.service",
    "ollama.service": "systemctl restart ollama.service",
    "ollama-vpn.service": "systemctl try-restart ollama-vpn.service",
    "ollama-vpn.socket": "systemctl stop ollama-vpn.service; systemctl restart ollama-vpn.socket",
    "openclaw.container": _OPENCLAW,
    "openclaw.service": _OPENCLAW,
    "tailscaled.service": "systemctl restart tailscaled.service",
}

#: A unit of the house, and the path of a file that changes it.
DropIn = tuple[str, str]


def script(roles: Collection[str]) -> str:
    """Shell text that prints a line "UNIT PATH" for each such file on a host with these roles. It starts no process.

    Files of others may have any name. If a name has unusual characters, only the folder is printed.
    """
    kinds = ((SYSTEM_UNITS, SYSTEM, ABOVE), (USER_UNITS, USER, ABOVE_USER), (CONTAINERS, CONTAINER, ABOVE_CONTAINER))
    lines = [
        'o() { [ -e "$2" ] || [ -L "$2" ] || return 0; '
        'case $2 in *[!A-Za-z0-9/._@:+-]*) echo "$1 ${2%/*}" ;; *) echo "$1 $2" ;; esac; }',
        # beside UNIT FOLDERS NAME...: finds files in the folders NAME.d. before UNIT FOLDERS: finds a file with the
        # unit's own name.
        "beside() { u=$1 w=$2; shift 2; for d in $w; do for n; do "
        'for p in "$d/$n.d"/*.conf; do o "$u" "$p"; done; done; done; }',
        'before() { for d in $2; do o "$1" "$d/$1"; done; }',
    ]
    for units, folders, above in kinds:
        for role, names in units.items():
            for name in names if role == "all" or role in roles else ():
                lines.append(f"beside {name} {shlex.quote(' '.join(folders))} {shlex.join(_names(name))}")
                lines.append(f"before {name} {shlex.quote(' '.join(above))}")
    # A unit of two roles is looked at once.
    return "\n".join(dict.fromkeys(lines))


def _names(unit: str) -> list[str]:
    """The names whose folders NAME.d systemd reads for a unit: the unit's name, and each beginning of it up to a
    dash."""
    name, dot, kind = unit.rpartition(".")
    words = name.split("-")
    return [unit, *("-".join(words[:count]) + f"-{dot}{kind}" for count in range(len(words) - 1, 0, -1))]


def units_of(roles: Collection[str], *kinds: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """The house's units of these kinds on a host with these roles; without `kinds`, of all kinds."""
    return frozenset(
        name
        for units in kinds or (SYSTEM_UNITS, USER_UNITS, CONTAINERS)
        for role, names in units.items()
        if role == "all" or role in roles
        for name in names
    )


def in_force(shown: str, roles: Collection[str]) -> list[DropIn]:
    """The drop-ins that systemd has read for the house's units, from `systemctl show -p Id,DropInPaths`. Leaves out
    drop-ins of packages and of systemd's generators, and those for every unit of a kind."""
    found, own = list[DropIn](), units_of(roles, SYSTEM_UNITS)
    for block in shown.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if fields.get("Id") in own:
            paths = (path for path in fields.get("DropInPaths", "").split() if path.startswith(SYSTEM))
            found += [(fields["Id"], path) for path in paths if path.split("/")[-2] not in EVERY]
    return found


def changed(member: Member, found: Iterable[DropIn], claimed: Collection[str]) -> Iterator[SettingError]:
    """A problem for each unit of the house that somebody else has changed on a host. For paths that the house has not
    taken yet, the claims have the message."""
    not_taken = [claim for claim in claims_of(member.roles) if not set(claim.places) <= set(claimed)]
    told = {shadow for claim in not_taken for shadow in claim.shadows}
    by_unit: dict[str, list[str]] = {}
    for unit, path in found:
        if unit in units_of(member.roles) and not {path, path.rpartition("/")[0]} & told:
            by_unit.setdefault(unit, []).append(path)
    for unit, paths in by_unit.items():
        yield SettingError(
            f"host {member.name}: {unit}",
            f"changed by {', '.join(paths)}",
            "the unit as the house writes it: no run and no check knows what another file changes",
            f"on the host: {removal(unit, paths)}",
        )


def removal(unit: str, paths: Iterable[str]) -> str:
    """The commands that remove the files and have the unit run without them."""
    manager = "" if unit in units_of(SYSTEM_UNITS, SYSTEM_UNITS) else "--user --machine=openclaw@ "
    steps = [f"rm -r {shlex.join(paths)}", f"systemctl {manager}daemon-reload"]
    return "; ".join([*steps, *([AGAIN[unit]] if unit in AGAIN else [])])
