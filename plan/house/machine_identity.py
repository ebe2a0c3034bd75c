"""Checks that the machines which a run reaches are those of the inventory, and that each name is another machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping

from plan.base.profile import Profile
from plan.engine.errors import SettingError
from plan.engine.ip_addresses import address, of_no_use_on_lan
from plan.engine.stamp import PATH, parse_stamp
from plan.house.house import Member
from plan.house.inventory import BOTH


def twins(name: str, profile: Profile, others: Mapping[str, Profile]) -> tuple[list[SettingError], list[str]]:
    """Problems (any one stops the run) and warnings about a host that is the same machine as one of `others`, or a copy
    of its disk.

    `others`: the hosts that this run knows, by name. The host itself may be among them.
    """
    problems: list[SettingError] = []
    warnings: list[str] = []
    for other, seen in others.items():
        if other == name:
            continue
        both = " and ".join(sorted((other, name)))
        if profile.machine.boot and profile.machine.boot == seen.machine.boot:
            problems.append(
                SettingError(
                    f"inventory: hosts {both}",
                    f"one machine, which calls itself {profile.hostname}",
                    "another machine for each name",
                    f"correct the address of one of them. {BOTH}",
                )
            )
        elif profile.machine.host_keys & seen.machine.host_keys:
            problems.append(
                SettingError(
                    f"hosts {both}: SSH host key",
                    "the same on both, as on copies of one disk",
                    "a key of its own for each machine, because each could pretend to be the other",
                    "on one of them: rm /etc/ssh/ssh_host_*; dpkg-reconfigure openssh-server; rm /etc/machine-id; "
                    "systemd-machine-id-setup; reboot. Here: ssh-keygen -R ADDRESS",
                )
            )
        elif profile.machine_id and profile.machine_id == seen.machine_id:
            warnings.append(
                f"hosts {both}: both have the same /etc/machine-id, as copies of one disk do, and may be given the "
                "same address by DHCP. On one of them: rm /etc/machine-id; systemd-machine-id-setup; reboot."
            )
    return problems, warnings


def another_name(name: str, profile: Profile) -> SettingError | None:
    """The error when a machine was deployed under another name than `name`; else None."""
    stamp = parse_stamp(profile.stamp)
    if stamp is None or stamp.what.host in ("", name):
        return None
    return SettingError(
        f"inventory: host {name}",
        f"a machine that was deployed as {stamp.what.host} on {stamp.when.date()}",
        f"one that was deployed as {name}, or never",
        f"correct the address of {name}. If that machine is to be {name} from now on: rm {PATH} on it, and run again",
    )


def left_behind(name: str, coordinator: Member, known: Collection[str], left_out: Collection[str]) -> str:
    """A warning when the coordinator has another address than before, and --limit leaves out hosts that do not know
    the new one; else "".

    `known`: the addresses at which a host of this run looks for the coordinator now. `left_out`: names of the hosts
    that --limit leaves out.
    """
    if not known or not left_out or set(known) == set(coordinator.addresses):
        return ""
    return (
        f"host {name}: the coordinator was at {', '.join(sorted(known))} and is at {', '.join(coordinator.addresses)} "
        f"now. {', '.join(sorted(left_out))} may still look for it at the old place, and --limit leaves them out. "
        "Next: run it without --limit."
    )


def foreign_addresses(member: Member, profile: Profile) -> tuple[list[SettingError], list[str]]:
    """Problems and warnings when a host does not have the addresses that the inventory gives it."""
    own = {str(ipaddress.ip_interface(text).ip) for _, text in profile.addresses}
    usable = sorted(text for text in own if not of_no_use_on_lan(address(text)))
    foreign = [text for text in member.addresses if text not in own]
    if not foreign or not own:
        return [], []
    has = ", ".join(usable) or "none that other hosts can reach"
    said = f"{', '.join(foreign)}, which the host itself does not have (it has {has})"
    if member.lan_given:
        text = f"host {member.name}: lan_addresses has {said}. All hosts of the house have to reach it there."
        return [], [text]
    return [
        SettingError(
            f"host {member.name}: ssh_hostname",
            said,
            "an address of the host itself; if SSH goes through a router or another machine, lan_addresses as well",
            f"add 'lan_addresses': {usable[:1]} to the host's data: where the other hosts reach it"
            if usable
            else "give the host an address on the network of the house, then run this again",
        )
    ], []
