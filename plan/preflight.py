"""Can this host play its part? Asked of every host before any is changed."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from plan.errors import SettingError
from plan.firewall import apt_of
from plan.models import smallest_ram_gib
from plan.profile import Profile

CLOCK_LIMIT_S = 60.0
"""Join keys live minutes, and a certificate made on a fast clock is not valid yet on a slow one."""

NOMINAL = 0.9
"""Of its nominal RAM a kernel shows at least nine tenths, so a '2 GB' machine passes a minimum of 2 GiB."""

RAM_MIB = {"coordinator": 512, "gateway": 1536}
"""OpenClaw's process was measured at 585 to 930 MiB; Headscale with its relay stays under 200. They add up.
A model host's minimum is that of the smallest model, whose 2 GiB for the rest already hold these."""

VAR_LIB_MIB = {"coordinator": 1024, "gateway": 5120, "model_hosts": 2048}
"""Headscale's database and packages; the gateway's image (about 1.5 GiB) as archive, unpacked and beside its
predecessor; on a model host all but the model, which the model choice counts."""

OPT_MIB = {"coordinator": 512, "gateway": 512, "model_hosts": 1024, "clients": 256}
"""The programs, with room for the next version beside this one."""

LIMITS = {
    "memory": "memory limits (MemoryMax)",
    "pids": "limits on the number of processes (TasksMax, PidsLimit)",
}


@dataclass(frozen=True)
class NeededPort:
    """A port a component will listen on. `owner_units` are the units that may hold it already: our own."""

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
    vpn_prefixes: Sequence[str] = ("100.64.0.0/10", "fd7a:115c:a1e0::/48"),
) -> tuple[list[SettingError], list[str]]:
    """All problems of a host (any one stops the run) and warnings (printed, the run goes on).

    `roles` are groups of the inventory: coordinator, gateway, model_hosts, clients. Pure: nothing is raised.
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
    if not profile.systemd:
        problem(
            "systemd",
            "not PID 1",
            "a host booted by systemd",
            "use a machine or a virtual host, not a container",
        )
    if not profile.tun:
        problem("/dev/net/tun", "missing", "present", "run 'modprobe tun'; in a container, pass the device in")
    for controller in sorted(LIMITS.keys() - profile.cgroup_controllers):
        warn(f"cgroup controller {controller!r} is missing: {LIMITS[controller]} cannot be enforced.")
    if profile.reboot_required:
        warn("a reboot is pending, so an older kernel or library is still in use.")
    if profile.firewall_unconfirmed:
        warn(
            f"a run that was cut off loaded firewall rules on {profile.firewall_unconfirmed}, which no new SSH "
            "connection confirmed. This run begins anew from the rules before them."
        )
    if profile.firewall_taken_back:
        warn(
            f"firewall rules of an earlier run were taken back on {profile.firewall_taken_back}: no new SSH connection "
            "from the controller confirmed them in time. The rules from before are in force; this run tries again."
        )

    if abs(profile.clock_skew_s) > CLOCK_LIMIT_S:
        problem(
            "clock",
            f"{profile.clock_skew_s:+.0f} s from this computer's",
            f"within {CLOCK_LIMIT_S:.0f} s",
            "switch time synchronisation on, on both: timedatectl set-ntp true",
        )

    needed_ram = _needed_ram_mib(roles)
    if profile.ram_mib < NOMINAL * needed_ram:
        problem(
            "RAM",
            f"{profile.ram_mib} MiB",
            f"{needed_ram} MiB for {', '.join(sorted(roles))}",
            "add RAM, or move a role",
        )
    for where, free, minimum in (
        ("/var/lib", profile.var_lib_free_mib, _sum_over(VAR_LIB_MIB, roles)),
        ("/opt", profile.opt_free_mib, _sum_over(OPT_MIB, roles)),
    ):
        if free >= minimum:
            continue
        if profile.beside.claimed:
            # What the first deployment took is no longer free; a second run must not fail over that.
            warn(f"{free} MiB are free at {where}; a first deployment wants {minimum} MiB.")
        else:
            problem(
                f"disk at {where}",
                f"{free} MiB free",
                f"{minimum} MiB",
                "free disk space or enlarge the volume",
            )

    try:
        apt_of(name, profile.apt_proxies)
    except SettingError as error:
        problems.append(error)
    for needed in needed_ports:
        for holder in _holders(profile, needed):
            problem(
                f"port {needed.port}/{needed.proto}",
                f"held by {holder}",
                f"free, or ours ({', '.join(needed.owner_units)}): {needed.why}",
                "stop and disable that program, give the row of access_table another port, or the role another host",
            )
    for interface, address, prefix in _clashes(profile, vpn_prefixes):
        problem(
            f"address on {interface}",
            address,
            f"outside {prefix}, which the VPN uses",
            "give that network another range, or leave the other VPN",
        )
    return problems, warnings


def _needed_ram_mib(roles: Collection[str]) -> int:
    model = round(smallest_ram_gib() * 1024) if "model_hosts" in roles else 0
    return max(_sum_over(RAM_MIB, roles), model)


def _sum_over(minimum: dict[str, int], roles: Collection[str]) -> int:
    return sum(minimum.get(role, 0) for role in set(roles))


def _holders(profile: Profile, needed: NeededPort) -> list[str]:
    """Programs holding the port, on whatever address, that are not ours."""
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
