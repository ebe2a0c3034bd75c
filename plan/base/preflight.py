"""Checks whether a host fits its roles. A run checks every host before it changes any."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from plan.base.memory_and_disks import (
    NOMINAL,
    disk_needs,
    file_needs,
    file_shortages,
    more_room,
    ram_needed_mib,
    shortages,
)
from plan.base.profile import Profile
from plan.base.sandboxes import sandbox_problems
from plan.base.writable_folders import check_storage
from plan.engine.errors import SettingError
from plan.engine.ip_addresses import VPN_V4, VPN_V6
from plan.engine.terminal_text import line
from plan.firewall.package_sources import apt_of
from plan.house.house import House, Member, leads_to
from plan.ollama.recorded_choice import recorded_place
from plan.verification import is_loopback

CLOCK_LIMIT_S = 60.0
"""Join keys are valid for minutes. And a certificate that was made by a fast clock is not valid yet by a slow one."""

LIMITS = {
    "memory": "memory limits (MemoryMax)",
    "pids": "limits on the number of processes (TasksMax, PidsLimit)",
}
#: How to switch on a cgroup controller that the kernel has but that is off; "" if there is no general way.
SWITCH = {
    "memory": " On a Raspberry Pi: add cgroup_enable=memory to the line of /boot/firmware/cmdline.txt, and restart it.",
    "pids": "",
}


@dataclass(frozen=True)
class NeededPort:
    """A port on which a component will listen. `owner_units`: our own units, which may already listen there."""

    proto: Literal["tcp", "udp"]
    port: int
    owner_units: tuple[str, ...]
    why: str


def check_host(
    name: str,
    roles: Collection[str],
    profile: Profile,
    *,
    needed_ports: Sequence[NeededPort],
    vpn_prefixes: Sequence[str] = (VPN_V4, VPN_V6),
) -> tuple[list[SettingError], list[str]]:
    """All problems of a host (any one stops the run) and warnings (the run prints them and goes on).

    `roles`: groups of the inventory (coordinator, gateway, model_hosts, clients). This function raises nothing.
    """
    problems: list[SettingError] = []
    warnings: list[str] = []

    def problem(what: str, found: object, accepted: str, next_step: str) -> None:
        problems.append(SettingError(f"host {name}: {what}", found, accepted, next_step))

    def warn(text: str) -> None:
        warnings.append(f"host {name}: {text}")

    system = (profile.os_id, profile.os_version_id)
    if system == ("ubuntu", "24.04"):
        warn("Ubuntu 24.04 was not tried by the project; Debian 13 was.")
    elif system != ("debian", "13"):
        problem("os", profile.os_pretty, "Debian 13 (or Ubuntu 24.04, untried)", "install Debian 13 on it")
    if profile.cpu == "arm64":
        warn("arm64 was not tried by the project; amd64 was.")
    elif profile.cpu != "amd64":
        problem("cpu", profile.cpu, "amd64 or arm64", "use another machine for these roles")
    more, also = sandbox_problems(name, roles, profile)
    problems += more
    warnings += also
    accounts = [login.name for login in profile.beside.logins]
    more, also = check_storage(name, roles, profile.storage, accounts, named=bool(profile.control_server))
    problems += more
    warnings += also
    for controller in sorted(LIMITS.keys() - profile.cgroup_controllers):
        warn(
            f"cgroup controller {controller!r} is missing: {LIMITS[controller]} cannot be enforced.{SWITCH[controller]}"
        )
    if profile.reboot_required:
        warn("a reboot is pending, so an older kernel or library is still in use.")
    if profile.firewall_unconfirmed:
        warn(
            f"an interrupted run loaded firewall rules on {profile.firewall_unconfirmed}, and no new SSH connection "
            "confirmed them. This run begins again from the rules before them."
        )
    if profile.firewall_taken_back:
        warn(
            f"firewall rules of an earlier run were taken back on {profile.firewall_taken_back}: no new SSH connection "
            "from the controller confirmed them in time. The rules from before are in force; this run tries again."
        )

    if profile.machine.package_trouble and not profile.beside.claimed:
        # Later runs have no package to install, most often.
        problem(
            "packages",
            line(profile.machine.package_trouble),
            "packages that dpkg can set up: else apt installs no others",
            "on the host: apt-get --fix-broken install. It may remove the package that the message names",
        )

    if abs(profile.clock_skew_s) > CLOCK_LIMIT_S:
        problem(
            "clock",
            f"{_date(profile.clock)}, {profile.clock_skew_s:+.0f} s from this computer's",
            f"within {CLOCK_LIMIT_S:.0f} s",
            "switch on time synchronisation on both computers: timedatectl set-ntp true (if that is not supported, "
            "first: apt install systemd-timesyncd). A container has the clock of its machine",
        )

    if "model_hosts" in roles:
        card, told = _card(name, profile)
        problems += [card] if card else []
        warnings += [told] if told else []

    needed_ram = ram_needed_mib(roles)
    if profile.ram_mib < NOMINAL * needed_ram:
        problem(
            "RAM",
            f"{profile.ram_mib} MiB",
            f"{needed_ram} MiB for {', '.join(sorted(roles))}",
            "add RAM, or move a role",
        )
    for folders, free, minimum, step in _too_small(roles, profile):
        if profile.beside.claimed:
            # The first deployment has used this space, so a second run must not fail because of it.
            warn(f"disk at {folders}: {free}; a first deployment needs {minimum}.")
        else:
            problem(f"disk at {folders}", free, minimum, step)

    try:
        apt_of(name, profile.apt_proxies)
    except SettingError as error:
        problems.append(error)
    for needed in needed_ports:
        for holder in _holders(profile, needed):
            problem(
                f"port {needed.port}/{needed.proto}",
                f"held by {holder}",
                f"free, or held by the house's {', '.join(needed.owner_units)}: {needed.why}",
                "stop and disable that program, or give the row of access_table another port, or give the role to "
                "another host",
            )
    for interface, address, prefix in _clashes(profile, vpn_prefixes):
        problem(
            f"address on {interface}",
            address,
            f"outside {prefix}, which the VPN uses",
            "give that network another range, or leave the other VPN",
        )
    return problems, warnings


def idle_ssh_rows(house: House, member: Member, profile: Profile) -> list[str]:
    """Warnings about rows for SSH that open a port on which no sshd listens, if an sshd listens on another port.

    A row for SSH has the id `ssh`, or an id that begins with "ssh-". We know an sshd by the name of its process or of
    its unit (systemd may hold the socket until somebody connects), and by the port over which this run connects.
    """
    at = {
        each.port
        for each in profile.listeners
        if each.proto == "tcp" and not is_loopback(each.address) and (each.is_sshd or each.port == profile.ssh_port)
    }
    rows = [row for row in house.access if row.protocol == "tcp" and leads_to(row, member)]
    found = ", ".join(map(str, sorted(at)))
    return [
        f"host {member.name}: row {row.id!r} of access_table opens port {row.port}/tcp, where no sshd listens; it "
        f"listens on {found}. Next: give the row that port, or another `to`, see docs/access-table.md#to-change-it; "
        "or leave it, if sshd is about to move"
        for row in rows
        if at and row.port not in at and (row.id == "ssh" or row.id.startswith("ssh-"))
    ]


def _date(seconds: float) -> str:
    """A time of a host's clock (seconds since 1970), in words."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return "no date"


def _too_small(roles: Collection[str], profile: Profile) -> Iterator[tuple[str, str, str, str]]:
    """File systems without enough room for a first deployment: folders, what is free, what is needed, next step."""
    for folders, free, needed in shortages(profile.machine, disk_needs(roles)):
        yield folders, f"{free} MiB free", f"{needed} MiB", more_room(folders)
    for folders, free, needed in file_shortages(profile.machine, file_needs(roles)):
        step = "remove files that nobody needs: `du --inodes -x / | sort -n | tail` shows where they are many; or "
        step += "enlarge the volume"
        yield folders, f"room for {free} more files", f"{needed} files (inodes), whatever the room in MiB", step


def _card(name: str, profile: Profile) -> tuple[SettingError | None, str]:
    """A problem, or a warning, about a graphics card of a model host that cannot be used."""
    machine = profile.machine
    if machine.card_trouble:
        if recorded_place(machine.model_record) == "VRAM":
            # Without the card the run would choose another model, and send it.
            return SettingError(
                f"host {name}: answer of nvidia-smi",
                line(machine.card_trouble),
                "the graphics card, on which the host's model runs",
                "reboot the host if its driver was updated, else repair the driver: nvidia-smi has to list the card. "
                "If somebody has removed the card: rm /etc/private-ai/model.json on the host, and run again",
            ), ""
        return None, (
            f"host {name}: nvidia-smi lists no graphics card, it says {line(machine.card_trouble)!r}. The model is "
            "chosen for the processor. If the host has a card: reboot it, or repair its driver, and run again."
        )
    if profile.gpus and not profile.vram_mib:
        return None, (
            f"host {name}: nvidia-smi shows no memory of {line(', '.join(profile.gpus))}. The model is chosen for the "
            "processor."
        )
    return None, ""


def _holders(profile: Profile, needed: NeededPort) -> list[str]:
    """Programs other than ours that listen on the port, on any address."""
    found = {
        f"{listener.process or 'a program the kernel does not name'} ({listener.unit or 'no unit'}) "
        f"on {listener.address}"
        for listener in profile.listeners
        if (listener.proto, listener.port) == (needed.proto, needed.port) and listener.unit not in needed.owner_units
    }
    return sorted(found)


def _clashes(profile: Profile, prefixes: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    for interface, address in profile.addresses:
        here = ipaddress.ip_interface(address).network
        if interface == "tailscale0":
            continue
        for network in networks:
            if here.version == network.version and here.overlaps(network):
                yield interface, address, str(network)
