"""Tailscale: every host joins the house's VPN, with a key that is valid once and for ten minutes."""

from __future__ import annotations

from artifacts import pins
from operations.engine.component import component
from operations.headscale.policy_in_force import policy_heard
from operations.tailscale import joined
from operations.upgrade.way import Way
from plan.engine.want import Component, File, Unit
from plan.house.house import House
from plan.tailscale.client_versions import cut_off_from
from tasks import ca
from tasks.engine.hosts import This
from tasks.engine.programs import program, program_want, running_program
from tasks.engine.texts import render
from tasks.upgrade.check import step_of

DEFAULTS = "/etc/default/tailscaled"
UNIT = "/etc/systemd/system/tailscaled.service"
CLI = "/usr/local/bin/tailscale"
DAEMON = "/usr/local/sbin/tailscaled"

#: A command that waits after a start of tailscaled, for 30 s at most, until a joined node is connected to the control
#: server and can reach its peers. The node is "Online" when it is connected to the control server. It is "Starting"
#: until it has reached a relay, then "Running". For a node that has not joined, the command does not wait: the
#: operation `joined` comes next.
HEARD = (
    "for i in $(seq 60); do said=$(tailscale status --json --peers=false) || break; "
    """case $said in *'"BackendState": "NeedsLogin"'* | *'"BackendState": "Running"'*'"Online": true'*) break ;; """
    "esac; sleep 0.5; done"
)

#: Prints the node's addresses, when it is in the VPN and hears the control server.
IN_THE_VPN = (
    "said=$(timeout 10 tailscale status --json --peers=false) || exit 1; "
    """case $said in *'"BackendState": "Running"'*'"Online": true'*) ;; *) exit 1 ;; esac; """
    """printf %s "$said" | tr -d ' \\n\\t' | grep -o '"TailscaleIPs":[[][^]]*[]]' | sort -u"""
)


def deploy(this: This) -> None:
    """Deploy program and unit, and join. The node of a server has tags. The node of a client belongs to a person, and
    the client uses MagicDNS."""
    house = this.house
    found = program_want(
        program("tailscale", this.profile.cpu, house), ((CLI, "bin/tailscale"), (DAEMON, "bin/tailscaled"))
    )
    wanted = Component(
        programs=(found,),
        files=(
            File(DEFAULTS, _defaults(house)),
            File(UNIT, render("tailscale/tailscaled.service.j2")),
        ),
        units=(service(),),
    )
    component(name="Tailscale | Program, service", want=lambda: wanted, instead=way(this))
    port = house.port("headscale")
    joined(
        name="Tailscale | Join the house",
        control=f"https://{house.headscale_name}:{port}",
        coordinator=house.coordinator.name,
        tags=this.member.tags,
        user=this.member.user,
        accept_dns=not this.member.is_server,
    )


def way(this: This) -> Way | None:
    """How Tailscale is upgraded: afterwards the node is in the VPN with its addresses. None if its version stays."""
    step = step_of(this, "tailscale")
    # Headscale may just have been restarted, so the node may need a moment before, too.
    return Way(step, IN_THE_VPN, ("tailscaled.service",), tries=60, looks=30) if step else None


def wait(this: This) -> None:
    """Wait until the policy is in force on this host. A run must not end before."""
    policy_heard(name="Tailscale | The policy is in force", house=this.house)


def _defaults(house: House) -> str:
    addresses = house.coordinator.addresses
    return render("tailscale/tailscaled.default.j2", port=house.port("wireguard"), addresses=addresses)


def service() -> Unit:
    """The unit of tailscaled."""
    return Unit(
        "tailscaled.service",
        # ca.STORE, because tailscaled reads the system's certificates only at its start.
        inputs=(DEFAULTS, UNIT, DAEMON, ca.STORE),
        in_force=running_program("tailscaled"),
        then=HEARD,
    )


def too_new() -> str:
    """The first version of Tailscale with which a client cannot reach this house's hosts, "" for none.

    See plan/tailscale/client_versions.py.
    """
    programs = pins.load().programs
    return cut_off_from(programs["headscale"].version, programs["tailscale"].version)
