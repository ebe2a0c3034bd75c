"""Headscale: the control server, with a relay and a STUN server of its own. No servers of other people are used."""

from __future__ import annotations

import json

from operations.ca.server import server_certificate
from operations.engine.component import component
from operations.headscale.users import users
from operations.upgrade.way import Way
from plan.engine.want import Component, Directory, File, Unit
from plan.headscale.policy import policy
from plan.house.house import House
from tasks.ca import certificate_path
from tasks.engine.hosts import This
from tasks.engine.programs import program, program_want, running_program
from tasks.engine.texts import render
from tasks.upgrade.check import step_of

CONFIG = "/etc/headscale/config.yaml"
POLICY = "/etc/headscale/policy.json"
UNIT = "/etc/systemd/system/headscale.service"
TLS = "/etc/headscale/tls"
BINARY = "/usr/local/bin/headscale"

#: If Headscale runs, it checks the new policy with its users and nodes. If it does not run yet, it checks the policy
#: when it starts.
POLICY_CHECK = "if systemctl is-active --quiet headscale; then headscale policy check --file {} >/dev/null; fi"

#: Prints the nodes: the keys of their machines, and their addresses in the VPN.
NODES = (
    "said=$(timeout 20 headscale nodes list -o json) || exit 1; echo nodes; "
    'printf %s "$said" | grep -oE \'mkey:[0-9a-f]+|"(100[.][0-9.]+|fd7a:[0-9a-f:]+)"\' | sort'
)


def deploy(this: This) -> None:
    """Program, certificate, configuration, policy, unit, users."""
    house = this.house
    found = program_want(program("headscale", this.profile.cpu, house), ((BINARY, "bin/headscale"),))
    port, stun = house.port("headscale"), house.port("stun")
    # The relay's entry takes one IPv4 and one IPv6 address. Headscale does not start if a key is there twice.
    addresses = {"ipv6" if ":" in address else "ipv4": address for address in reversed(house.coordinator.addresses)}
    config = render(
        "headscale/config.yaml.j2",
        name=house.headscale_name,
        port=port,
        stun=stun,
        house=house.name,
        vpn_v4=house.vpn_v4,
        vpn_v6=house.vpn_v6,
        vpn_domain=house.vpn_domain,
        expiry=house.node_expiry,
        addresses=sorted(addresses.items()),
    )
    folders = Component(
        directories=tuple(Directory(folder, group="headscale", mode="0750") for folder in ("/etc/headscale", TLS)),
    )
    component(name="Headscale | Folders", want=lambda: folders)
    server_certificate(
        name="Headscale | Certificate",
        folder=TLS,
        owner="headscale",
        names=(house.headscale_name,),
        coordinator=house.coordinator.name,
        authority_file=certificate_path(house),
    )
    wanted = Component(
        programs=(found,),
        files=(
            File(CONFIG, config, group="headscale", mode="0640"),
            File(
                POLICY,
                json.dumps(policy(house), indent=2) + "\n",
                group="headscale",
                mode="0640",
                check=POLICY_CHECK,
                shown=True,
            ),
            File(UNIT, render("headscale/headscale.service.j2")),
        ),
        units=(service(house),),
    )
    component(name="Headscale | Configuration, policy, service", want=lambda: wanted, instead=way(this))
    users(name="Headscale | Users", names=house.users)


def way(this: This) -> Way | None:
    """How Headscale is upgraded: afterwards it has the same nodes. None if its version stays."""
    step = step_of(this, "headscale")
    # It has read its nodes when it is ready.
    return Way(step, NODES, ("headscale.service",), tries=15) if step else None


def service(house: House) -> Unit:
    """The unit of the control server."""
    url = f"https://{house.headscale_name}:{house.port('headscale')}"
    return Unit(
        "headscale.service",
        inputs=(CONFIG, POLICY, UNIT, BINARY, f"{TLS}/cert.pem", f"{TLS}/key.pem"),
        in_force=running_program("headscale"),
        ready=f"curl --disable --silent --fail --max-time 5 {url}/health | grep -q pass",
    )
