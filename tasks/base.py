"""Base: the checks of every host before anything is changed, then its packages, names and service accounts."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pyinfra import host, logger

from facts.base.capabilities import boot_of
from facts.base.profile import CONTROL_NAMES
from facts.engine.component_state import block_text
from operations.engine.claims import claimed
from operations.engine.component import component, install_block
from operations.engine.run import this_run
from plan.base.memory_and_disks import MODELS, libraries_room
from plan.base.preflight import NeededPort, check_host, idle_ssh_rows
from plan.ca import begins_anew, other_house
from plan.engine.claims import UNITS, accounts_of, claim_file
from plan.engine.errors import SettingError
from plan.engine.upload_folder import INCOMING
from plan.engine.want import Account, Block, Component, Directory, File, Unit
from plan.firewall.package_sources import apt_as_root
from plan.firewall.rules import locked_out, tunnel
from plan.house.house import House, leads_to
from plan.house.machine_identity import another_name, foreign_addresses, left_behind, twins
from plan.other_programs.check import check_beside
from plan.removal.belongings import left_over
from plan.verification import OWNERS
from tasks import backup
from tasks.engine.connection import through_another
from tasks.engine.hosts import This, authority_seen, known_profiles, profile_of
from tasks.engine.house import WrongInput, left_out
from tasks.engine.programs import program
from tasks.engine.texts import render
from tasks.ollama_model import choice_of, model_of, room_for
from tasks.upgrade import check as upgrade

#: For every host: packages for the firewall, for checks, and for downloads over HTTPS.
PACKAGES = ("ca-certificates", "curl", "nftables", "openssl", "python3-minimal")
#: Rootless Podman, and packages that it only recommends but that it needs here: for user namespaces, for its network,
#: for systemd and D-Bus of an account.
GATEWAY_PACKAGES = ("podman", "passt", "uidmap", "catatonit", "dbus-user-session", "libpam-systemd")

NAMES = "/usr/local/sbin/private-ai-names"
NAMES_PATH = "private-ai-names.path"


def check(this: This) -> None:
    """Find everything that is wrong with a host, before the run has changed anything on any host."""
    check_machine(this, [backup.check_whole(this)])
    cpu, house = this.profile.cpu, this.house
    if this.has("coordinator") and not (authority := authority_seen(house)):
        away = left_out()
        seen = {each.name: profile_of(each.name) for each in house.members if each.name not in away}
        _say([], list(filter(None, [begins_anew(house, authority, seen)])))
    program("tailscale", cpu, house)
    if this.has("coordinator"):
        program("headscale", cpu, house)
    if this.has("model_hosts"):
        choice = choice_of(this.member)
        problems, warnings = room_for(this.member, choice)
        told = f"host {this.member.name}: {choice.warning}"
        _say(problems, [*warnings, told] if choice.warning else warnings)
        host.log(f"{choice.why} {choice.next_larger}")
        files = program("ollama", cpu, house, gpu=choice.place == "VRAM").files
        if choice.place == "VRAM" and MODELS not in this.profile.beside.claimed:
            _say(libraries_room(this.member, this.profile, choice, [file.size for file in files]), [])
        model_of(this.member)
    if this.has("gateway"):
        program("openclaw", cpu, house)
    _say(upgrade.check_room(this), [])


def check_machine(this: This, more: Iterable[SettingError | None] = ()) -> None:
    """The part of `check` that needs no program and no model: the machine, its networks, other people's programs.
    `more`: further problems of this host."""
    needed = tuple(
        NeededPort(row.protocol, row.port, OWNERS[row.id], row.why)
        for row in this.house.access
        if row.id in OWNERS and row.id != "ssh" and leads_to(row, this.member)
    )
    name, roles, profile = this.member.name, this.member.roles, this.profile
    problems, warnings = check_host(name, roles, profile, needed_ports=needed)
    for found, said in (
        twins(name, profile, known_profiles()),
        foreign_addresses(this.member, profile),
        check_beside(this.house, this.member, profile),
        upgrade.check_path(this),
    ):
        problems += found
        warnings += said
    warnings += idle_ssh_rows(this.house, this.member, profile)
    moved = left_behind(name, this.house.coordinator, profile.control_server, left_out())
    warnings += left_over(this.member, profile.beside.claimed, this_run().command_line.inventory)
    warnings += filter(None, [apt_as_root(this.member, profile.apt_user), moved])
    problems += filter(None, [*more, another_name(name, profile), other_house(this.house, authority_seen(this.house))])
    if profile.ssh_client:
        networks = [network for _, network in profile.addresses]
        jumps = through_another(host.connector)
        locked = locked_out(this.house, this.member, profile.ssh_client, profile.ssh_port, networks, jumps=jumps)
        problems += filter(None, [locked])
        warnings += filter(None, [tunnel(this.member, profile.ssh_client, profile.machine.boot == _own_boot())])
    _say(problems, warnings)


def _own_boot() -> str:
    """The controller's boot, in the form that a host's profile has; "" if it cannot be read. If both are equal, the
    controller is this host."""
    try:
        return boot_of([Path(file).read_text() for file in ("/proc/sys/kernel/random/boot_id", "/proc/1/stat")])
    except OSError:
        return ""


def _say(problems: Sequence[SettingError], warnings: Sequence[str]) -> None:
    for warning in warnings:
        logger.warning(f"{host.print_prefix}{warning}")
    if problems:
        raise WrongInput("\n    ".join(["nothing was changed:", *map(str, problems)]))


def deploy(this: This) -> None:
    """First the note on the host about the places that the house claims, before the run puts anything there. Then
    packages, the control server's name, and the accounts that the firewall's rules name."""
    upgrade.recover(this)
    known = this.profile.beside.claimed
    claimed(name="Base | Places taken", places=claim_file(this.member.roles, known), known=known)
    packages = PACKAGES + (GATEWAY_PACKAGES if this.has("gateway") else ())
    accounts = tuple(
        Account(name, home, runs_containers=name == "openclaw") for name, home in accounts_of(this.member.roles).items()
    )
    names = names_of(this.house)
    wanted = Component(
        packages=packages,
        accounts=accounts,
        directories=(
            Directory("/var/lib/private-ai"),
            # Files that are in this folder when a run begins are left from an interrupted run.
            Directory(INCOMING, mode="0700", empty=True),
        ),
        # Another program may write /etc/hosts again, at a boot or later. Then this unit puts the names back.
        files=(
            File(NAMES, keeper(names), mode="0755", check="sh -n {}"),
            File(f"{UNITS}/private-ai-names.service", render("base/private-ai-names.service.j2", program=NAMES)),
            File(f"{UNITS}/{NAMES_PATH}", render("base/private-ai-names.path.j2")),
        ),
        blocks=(names,),
        units=(names_kept(),),
    )
    component(name="Base | Packages, accounts, names", want=lambda: wanted)


def names_of(house: House) -> Block:
    """The control server's name in /etc/hosts. Hosts need it before the names of the VPN exist."""
    addresses = house.coordinator.addresses
    return replace(CONTROL_NAMES, lines=tuple(f"{address} {house.headscale_name}" for address in addresses))


def keeper(block: Block) -> str:
    """The text of the program that puts a block back into its file."""
    return render(
        "base/private-ai-names.j2",
        path=shlex.quote(block.path),
        text=shlex.quote(block.text.removesuffix("\n")),
        there=block_text(block),
        put_in=install_block(block),
    )


def names_kept() -> Unit:
    """The unit that watches /etc/hosts."""
    return Unit(NAMES_PATH, inputs=(NAMES, f"{UNITS}/private-ai-names.service", f"{UNITS}/{NAMES_PATH}"))
