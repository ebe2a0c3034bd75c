"""Base: what every host must be before anything else, its packages, names and service accounts."""

from __future__ import annotations

from pyinfra import host, logger

from operations.component import component
from plan.checks import OWNERS
from plan.house import leads_to
from plan.preflight import NeededPort, check_host
from plan.want import Account, Block, Component, Directory
from tasks.this import This, WrongInput, choice_of, model_of, program

#: Every host: to be reached, to be checked, to fetch over HTTPS.
PACKAGES = ("ca-certificates", "curl", "nftables", "openssl")
#: Rootless Podman with what it only recommends: user namespaces, its network, a user's systemd and D-Bus.
GATEWAY_PACKAGES = ("podman", "passt", "uidmap", "catatonit", "dbus-user-session", "libpam-systemd")


def check(this: This) -> None:
    """Everything that can be wrong with a host is found here, before anything has changed on any."""
    needed = tuple(
        NeededPort(row.protocol, row.port, OWNERS[row.id], row.why)
        for row in this.house.access
        if row.id in OWNERS and row.id != "ssh" and leads_to(row, this.member)
    )
    problems, warnings = check_host(this.member.name, this.member.roles, this.profile, needed_ports=needed)
    for warning in warnings:
        logger.warning(f"{host.print_prefix}{warning}")
    if problems:
        raise WrongInput("\n    ".join(["nothing was changed:", *map(str, problems)]))
    cpu, house = this.profile.cpu, this.house
    program("tailscale", cpu, house)
    if this.has("coordinator"):
        program("headscale", cpu, house)
    if this.has("model_hosts"):
        choice = choice_of(this.member)
        host.log(f"{choice.why} {choice.next_larger}")
        program("ollama", cpu, house, gpu=choice.place == "VRAM")
        model_of(this.member)
    if this.has("gateway"):
        program("openclaw", cpu, house)


def deploy(this: This) -> None:
    """Packages, the control server's name, and the accounts that the firewall's rules will name."""
    accounts = []
    if this.has("coordinator"):
        accounts.append(Account("headscale", "/var/lib/headscale"))
    if this.has("model_hosts"):
        accounts += [Account("ollama", "/var/lib/ollama"), Account("ollama-vpn", "/nonexistent")]
    packages: tuple[str, ...] = PACKAGES
    if this.has("gateway"):
        packages += GATEWAY_PACKAGES
        accounts.append(Account("openclaw", "/var/lib/openclaw", runs_containers=True))
    names = Block(
        "/etc/hosts",
        "names",
        tuple(f"{address} {this.house.headscale_name}" for address in this.house.coordinator.addresses),
    )
    wanted = Component(
        packages=packages,
        accounts=tuple(accounts),
        directories=(
            Directory("/var/lib/private-ai"),
            Directory("/var/lib/private-ai/incoming", mode="0700"),
        ),
        blocks=(names,),
    )
    component(name="Base | Packages, accounts, names", want=lambda: wanted)
