"""Checks whether a host can isolate the house's programs, and run them at all. Most problems here come from hosts that
are containers and do not get enough rights from their own host."""

from __future__ import annotations

from collections.abc import Collection

from plan.base.capabilities import STORE
from plan.base.profile import Profile
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line

#: Subordinate ids of OpenClaw's account: the first one and the number of them, as Debian gives them (login.defs,
#: SUB_UID_MIN and SUB_UID_COUNT).
SUBORDINATE_FIRST, SUBORDINATE_COUNT = 100000, 65536

#: Kernel settings that can forbid user namespaces to accounts: name -> the value that forbids them, and the command
#: that sets another value.
FORBIDDING = {
    "user.max_user_namespaces": (0, "sysctl -w user.max_user_namespaces=15000"),
    "kernel.unprivileged_userns_clone": (0, "sysctl -w kernel.unprivileged_userns_clone=1"),
}
RESTRICTING = "kernel.apparmor_restrict_unprivileged_userns"
ELSEWHERE = "or give the role gateway to another host"


def sandbox_problems(name: str, roles: Collection[str], profile: Profile) -> tuple[list[SettingError], list[str]]:
    """Problems (any one stops the run) and warnings of the host `name`. This function raises nothing."""
    machine = profile.machine
    problems: list[SettingError] = []

    def problem(what: str, found: object, accepted: str, next_step: str) -> None:
        problems.append(SettingError(f"host {name}: {what}", found, accepted, next_step))

    if not profile.systemd:
        problem(
            "systemd",
            "not PID 1",
            "a host booted by systemd",
            "use a machine or a virtual host, not a container",
        )
    if machine.tun_trouble:
        problem(
            "/dev/net/tun",
            machine.tun_trouble,
            "a device that can be opened",
            "run 'modprobe tun'. If that finds no module, the kernel was updated: restart the host. If the host is a "
            "container, have its own host pass the device in (Proxmox: pct set ID --dev0 /dev/net/tun)",
        )
    if machine.nft_trouble:
        problem(
            "nftables",
            line(machine.nft_trouble),
            "a kernel whose packet filter nft can read and set",
            "restart the host if its kernel was updated (then `modprobe nf_tables` finds no module), or if "
            "kernel.modules_disabled is 1. If the host is a container, have its own host load nf_tables. Else use "
            "Debian's kernel",
        )
    if machine.sandbox_trouble:
        problem(
            "file systems of its own for a service",
            machine.sandbox_trouble,
            "what systemd needs to isolate services (ProtectSystem, PrivateTmp)",
            "if the host is a container, have its own host allow it (Proxmox: pct set ID --features nesting=1, then "
            "restart the container), or use a virtual machine",
        )
    if "gateway" not in roles:
        return problems, []
    last = SUBORDINATE_FIRST + SUBORDINATE_COUNT - 1
    if not machine.has_ids(SUBORDINATE_FIRST, SUBORDINATE_COUNT):
        problem(
            "user numbers",
            ", ".join(f"{first} to {end}" for first, end in machine.ids) or "none",
            f"{SUBORDINATE_FIRST} to {last} as well, for OpenClaw's container",
            f"have the container's host map {last + 1} numbers or more into it (lxc.idmap, /etc/subuid), use a virtual "
            f"machine, {ELSEWHERE}",
        )
    for switch, (value, command) in FORBIDDING.items():
        if machine.switches.get(switch) == value:
            problem(
                switch,
                value,
                "user namespaces for accounts without privileges, because OpenClaw's container needs one",
                f"{command}, and the same in /etc/sysctl.d (if the host is a container: on its own host); {ELSEWHERE}",
            )
    if machine.masked:
        units = " ".join(machine.masked)
        problem(
            "masked units",
            units,
            "no masked unit of those that start the systemd of OpenClaw's account, in which its container runs",
            f"systemctl unmask {units}; systemctl daemon-reload; systemctl start dbus.socket systemd-logind.service; "
            f"{ELSEWHERE}",
        )
    if machine.podman_store:
        problem(
            STORE,
            line(machine.podman_store),
            "a file that sets no folder for the images of all accounts: OpenClaw's account could not write there",
            "remove that line, and write it into ~/.config/containers/storage.conf of the accounts that need it; "
            f"{ELSEWHERE}",
        )
    warnings = []
    if machine.switches.get(RESTRICTING):
        warnings.append(
            f"host {name}: {RESTRICTING} is {machine.switches[RESTRICTING]}: AppArmor lets only programs with a "
            "profile make user namespaces. Without a profile for Podman the gateway's container cannot start."
        )
    return problems, warnings
