"""Health: between runs, every host checks its own part of the house, and stores the result for `make status`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from facts.ca import RENEW_DAYS, next_of
from facts.engine.component_state import STAMPS, inputs_digest, through_manager, unit_call
from facts.ollama import STORE
from operations.engine.component import component
from plan.engine.claims import UNITS
from plan.engine.want import Component, Directory, File, Unit
from plan.health import (
    AGAIN_S,
    AUTHORITY_WARN_DAYS,
    CERTIFICATE_FAIL_DAYS,
    CERTIFICATE_WARN_DAYS,
    DISK_FAIL_MIB,
    DISK_WARN_MIB,
    EVERY_MINUTES,
    FOLDER,
    KEY_WARN_DAYS,
    SERVICE,
    SUCCESSOR_WARN_DAYS,
    TIMER,
)
from plan.other_programs import drop_ins
from plan.renewal import ROLES
from plan.renewal import SERVICE as RENEWAL
from tasks import backup, base, ca, firewall, ollama, renewal, tailscale
from tasks.engine.hosts import This, vpn_of
from tasks.engine.texts import render
from tasks.ollama_model import choice_of

PROGRAM = "/usr/local/sbin/private-ai-health"
#: An administrator's own program. It is called when the state changes. The deployment does not write it.
HOOK = "/etc/private-ai/health-notify"
NOTIFY = "private-ai-health-notify"

#: The addresses at which tailscaled answers for names of the VPN. They are the same on each node
#: (tailscale.com/net/tsaddr).
MAGIC_DNS = ("100.100.100.100", "fd7a:115c:a1e0::53")

#: One line of the list in the program on the host: the name of a function of that program, and its arguments.
Call = Sequence[str]


def deploy(this: This) -> None:
    """Deploy the program, its timer, and the unit that calls the administrator's own program."""
    service, timer, notify = (f"{UNITS}/{name}" for name in (SERVICE, TIMER, f"{NOTIFY}@.service"))

    def wanted() -> Component:
        own = this.member.addresses if this.has("coordinator") else ()
        # Clients ask tailscaled for names of the VPN.
        own += () if this.member.is_server else MAGIC_DNS
        # The program asks OpenClaw at the address that clients use.
        own += vpn_of(this.member).addresses[:1] if this.has("gateway") else ()
        return Component(
            directories=(Directory("/etc/private-ai"),),
            files=(
                File(PROGRAM, program(this.member.name, calls(this)), mode="0755", check="sh -n {}"),
                # On the coordinator, the name of the control server is an address of the host itself.
                File(service, render("health/private-ai-health.service.j2", program=PROGRAM, addresses=own)),
                File(timer, render("health/private-ai-health.timer.j2", minutes=EVERY_MINUTES)),
                File(notify, render("health/private-ai-health-notify@.service.j2", hook=HOOK, folder=FOLDER)),
            ),
            units=(
                # The host makes its first look at once.
                Unit(TIMER, inputs=(PROGRAM, service, timer, notify), ready=f"systemctl start {SERVICE}"),
            ),
        )

    component(name="Health | Program, timer", want=wanted)


def program(host: str, looks: Iterable[Call], folder: str = FOLDER, stamps: str = STAMPS, again: int = AGAIN_S) -> str:
    """The text of the program. The same data decide what is deployed and what the program checks."""
    return render(
        "health/private-ai-health.j2",
        host=shlex.quote(host),
        looks=[shlex.join(look) for look in looks],
        folder=folder,
        stamps=stamps,
        again=again,
        notify=NOTIFY,
    )


def calls(this: This) -> list[Call]:
    """The list of what the program checks on a host. Raises NotYet before the gateway's account is made."""
    house, days = this.house, str(CERTIFICATE_FAIL_DAYS)
    units = [base.names_kept(), firewall.service(), tailscale.service()]
    found: list[Call] = [("certificate", ca.certificate_path(house), str(AUTHORITY_WARN_DAYS), days)]
    models: list[Call] = []
    if this.has("model_hosts"):
        units += [ollama.service(house), ollama.forwarder(this)]
        name = choice_of(this.member).entry.name
        models.append(("model", name, f"{STORE}/manifests/{ollama.manifest_path(name)}"))
    if ROLES.intersection(this.member.roles):
        served = renewal.served(this)
        units += [*(each.unit for each in served), renewal.timer_unit()]
        warn = CERTIFICATE_WARN_DAYS if this.has("coordinator") else SUCCESSOR_WARN_DAYS
        files = [f"{each.folder}/cert.pem" for each in served]
        found += [("certificate", file, str(warn), days) for file in files]
        if not this.has("coordinator"):
            found += [("successor", file, next_of(file), str(RENEW_DAYS)) for file in files]
        found.append(("renewal", RENEWAL))
    if backup.makes_its_own(this):
        units.append(backup.timer())
    # Servers cannot resolve names of the VPN.
    assistant = "" if this.member.is_server else house.vpn_name(house.gateway_of(this.member.user))
    too_new = tailscale.too_new()
    return [
        *(unit_call_of(unit) for unit in units if not unit.stopped),
        ("drop_ins", drop_ins.script(this.member.roles)),
        *models,
        *backup.look(this),
        *found,
        ("disks", str(DISK_WARN_MIB), str(DISK_FAIL_MIB), "/var/lib", "/opt"),
        ("vpn", str(KEY_WARN_DAYS), assistant),
        *((("clients", *too_new.split(".")),) if too_new else ()),
        ("clock",),
        ("reboot", "/run/reboot-required"),
    ]


def unit_call_of(unit: Unit) -> Call:
    """The call that checks a unit: whether it is active, answers, and was started with the current inputs."""
    properties = "ActiveState,LoadState,UnitFileState,ExecMainStatus"
    show = unit_call(unit.user, f"show --property={properties} {shlex.quote(unit.name)}")
    state, words = "warning", "runs with other files or another program than the deployment started it with"
    if unit.name == firewall.service().name:
        state, words = "failed", "has other rules in force, or another file of rules, than the deployment loaded"
    kind = "enabled" if unit.enable else "generated"
    final = (str(unit.final[0]), f"is not started again: {unit.final[1]}") if unit.final else ()
    return ("unit", unit.name, kind, show, unit.ready, inputs_digest(unit, through_manager), state, words, *final)
