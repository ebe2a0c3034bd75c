"""Renewal: hosts renew the certificates of their own services in time, also when no run comes for years."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import click
from pyinfra import inventory, state

from facts.ca import CaCertificate, CaOther, CertificateState, OtherAuthority
from facts.engine.component_state import STAMPS, inputs_digest, through_manager
from operations.ca import server
from operations.ca.server import alternative_names, signed_here_script, successor_script
from operations.engine.answers import NotYet, ask, have_of
from operations.engine.component import component, start_unit
from operations.engine.run import once_a_run, this_run
from plan.base.profile import LAST_RUN
from plan.ca import SWAP_DAYS
from plan.engine.claims import UNITS
from plan.engine.difference import difference
from plan.engine.errors import SettingError
from plan.engine.want import Component, Effect, File, Unit
from plan.house.house import House
from plan.openclaw.configuration import ACCOUNT
from plan.renewal import PROGRAM, ROLES, SERVICE, STEPS, TIMER, behind_told
from tasks import headscale, openclaw
from tasks.ca import certificate_path, in_store, other_path
from tasks.devices import refuse
from tasks.engine.hosts import This, vpn_of
from tasks.engine.house import WrongInput, the_house
from tasks.engine.texts import render

#: For so many seconds the renewal waits for a run that is at work on the host.
PATIENCE = 600


@dataclass(frozen=True)
class Served:
    """A certificate of a host: its folder, the account that may read its key, its name, and the unit that uses it."""

    folder: str
    owner: str
    name: str
    unit: Unit


def deploy(this: This) -> None:
    """Deploy the program and its timer on the hosts that have a server's certificate."""
    if not ROLES.intersection(this.member.roles):
        # A host that had such a certificate once.
        stopped = Component(units=(Unit(TIMER, stopped=True),))
        component(name="Renewal | Timer", want=lambda: stopped)
        return
    service, timer = f"{UNITS}/{SERVICE}", f"{UNITS}/{TIMER}"

    def wanted() -> Component:
        found = served(this)
        # The name of the control server is an address of the coordinator itself; OpenClaw is asked at its address in
        # the VPN.
        own = this.member.addresses if this.has("coordinator") else ()
        own += vpn_of(this.member).addresses[:1] if this.has("gateway") else ()
        unit = render(
            "renewal/private-ai-renew.service.j2",
            program=PROGRAM,
            addresses=own,
            units=[each.unit.name for each in found if not each.unit.user],
            folders=[each.folder for each in found],
        )
        return Component(
            files=(
                File(PROGRAM, program(this, found), mode="0755", check="sh -n {}"),
                File(service, unit),
                File(timer, render("renewal/private-ai-renew.timer.j2")),
            ),
            units=(timer_unit(),),
        )

    component(name="Renewal | Program, timer", want=wanted)


def timer_unit() -> Unit:
    """The timer's unit. The program is no input: it is read anew each time."""
    return Unit(TIMER, inputs=(f"{UNITS}/{SERVICE}", f"{UNITS}/{TIMER}"))


def served(this: This) -> list[Served]:
    """The certificates of a host. Raises NotYet before the gateway's account is made."""
    house, found = this.house, []
    if this.has("coordinator"):
        found.append(Served(headscale.TLS, "headscale", house.headscale_name, headscale.service(house)))
    if this.has("gateway"):
        number = openclaw.account_number()
        if number is None:
            raise NotYet("the gateway's account is made first")
        unit = openclaw.service(house, this.member, number)
        found.append(Served(openclaw.TLS, ACCOUNT, house.vpn_name(this.member), unit))
    return found


def program(this: This, found: Iterable[Served], last_run: str = LAST_RUN, stamps: str = STAMPS) -> str:
    """The text of the program. The host that has the authority signs; other hosts put a successor into its place."""
    return render(
        "renewal/private-ai-renew.j2",
        host=this.member.name,
        folder=last_run.rpartition("/")[0],
        last_run=last_run,
        patience=PATIENCE,
        stamps=stamps,
        certificates=[shlex.join(_call(this, each)) for each in found],
    )


def question_of(this: This, each: Served) -> dict[str, Any]:
    """The arguments of the fact CertificateState for a certificate of a host."""
    return server.question_of(
        each.folder, each.owner, (each.name,), certificate_path(this.house), successor=not this.has("coordinator")
    )


def to_rotate(this: This) -> list[tuple[Served, str]]:
    """The certificates of a host that was deployed, and for each how long its service takes to restart, for people.

    Raises WrongInput."""
    try:
        found = served(this)
    except NotYet as error:
        raise WrongInput(
            f"{this.member.name} has no OpenClaw yet (nothing was changed). Next: run the deployment"
        ) from error
    return [(each, "20 s" if each.unit.user else "2 s") for each in found]


def _call(this: This, each: Served) -> tuple[str, ...]:
    certificate, authority = f"{each.folder}/cert.pem", certificate_path(this.house)
    names = alternative_names((each.name,))
    state = CertificateState()
    files = (certificate, f"{each.folder}/key.pem", each.owner, names, authority)
    if this.has("coordinator"):
        due, made = state.command(*files), signed_here_script(each.folder, each.owner, names, authority)
    else:
        due, made = state.command(*files, days=SWAP_DAYS), successor_script(each.folder, authority)
    digest = inputs_digest(each.unit, through_manager)
    return ("renew", each.unit.name, certificate, due, made, start_unit(each.unit, through_manager), digest)


@once_a_run
def next_step() -> tuple[str, str]:
    """The stage of the house's way to a new authority (facts/ca.py: OtherAuthority), and the authority that signs now.

    Says what this call does. Raises WrongInput when the next step would leave somebody behind.
    """
    house = the_house()
    coordinator = inventory.get_host(house.coordinator.name)
    authority, other = ask(coordinator, CaCertificate), ask(coordinator, CaOther)
    if not authority:
        raise WrongInput(f"{coordinator.name} has no authority yet (nothing was changed). Next: run the deployment")
    behind = [*_without(house, authority, other), *_not_signed(house, other)]
    if other.stage == "new":
        behind += [f"{device.name}: a device, it is not known whether it has it" for device in house.devices]
    accepted = this_run().command_line.data.get("missing")
    if accepted not in (None, "accepted"):
        refuse(SettingError("--data missing", accepted, "accepted", "leave it out to be told who would be left behind"))
    told = behind_told(other.stage, behind)
    if behind and not accepted:
        raise WrongInput(f"not everybody is known to {told} (nothing was changed)")
    for line in (*((f"not everybody is known to {told}",) if behind else ()), STEPS[other.stage]):
        click.echo(f"\n    {line}", err=True)
    return other.stage, authority


def _without(house: House, authority: str, other: OtherAuthority) -> list[str]:
    """The hosts that do not trust the new authority, or that are not asked."""
    if other.stage not in ("new", "old"):
        return []
    path, pem = (other_path(house), other.pem) if other.stage == "new" else (certificate_path(house), authority)
    wanted = Component(files=(File(path, pem),), effects=(Effect(path, in_store(path), "true"),))
    found = []
    for member in house.members:
        here = inventory.get_host(member.name)
        if not state.is_host_in_limit(here):
            found.append(f"{member.name}: it is not in this run")
        elif difference(wanted, have_of(here, wanted)):
            found.append(f"{member.name}: it does not trust the new authority. Next: run the deployment")
    return found


def _not_signed(house: House, other: OtherAuthority) -> list[str]:
    """The servers that have no certificate of the new authority, before the old one is forgotten."""
    if other.stage != "old":
        return []
    servers = [(house.coordinator, headscale.TLS, "headscale", house.headscale_name)]
    servers += [(each, openclaw.TLS, ACCOUNT, house.vpn_name(each)) for each in house.gateways]
    found = []
    for member, folder, owner, name in servers:
        here = inventory.get_host(member.name)
        successor = "coordinator" not in member.roles
        question = server.question_of(folder, owner, (name,), certificate_path(house), successor)
        if state.is_host_in_limit(here) and not (seen := ask(here, CertificateState, **question)).good:
            found.append(f"{member.name}: {folder}/cert.pem: {seen.why_not}. Next: run the deployment")
    return found
