"""OpenClaw: the gateway. It runs in a rootless container that can reach Ollama and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pyinfra import host

from artifacts.store import Program
from facts.ca import NEXT
from facts.engine.component_state import ComponentState, looking, unit_call
from operations.ca.server import server_certificate
from operations.engine.answers import NotYet, ask
from operations.engine.component import component
from operations.engine.run import once_a_run
from operations.openclaw.image import Image, image, loaded
from operations.upgrade.way import Way
from plan.backup import places
from plan.engine.command_environment import FOREIGN_TO_PODMAN, PODMAN
from plan.engine.want import Component, Directory, File, Secret, Unit
from plan.house.house import House, Member
from plan.ollama.model_choice import Choice
from plan.openclaw import time_limits
from plan.openclaw.configuration import (
    ACCOUNT,
    CONTAINER_ADDRESS,
    CONTAINER_PREFIX,
    CONTAINER_ROUTER,
    IMAGE_RECORD,
    MEMORY_GIB,
    OWN_SITES,
    PIDS,
    USER_NAMESPACE,
    WHO,
    model_servers,
    ollama_host,
    openclaw_config,
)
from tasks.ca import certificate_path
from tasks.engine.hosts import This, vpn_of
from tasks.engine.programs import program
from tasks.engine.texts import render, static
from tasks.ollama_model import choice_of
from tasks.upgrade.check import step_of

CONFIG = "/etc/openclaw/openclaw.json"
TOKEN = places.TOKEN
TLS = "/etc/openclaw/tls"
#: The program that sends the first message, and its units. The user manager of every account reads these units; a
#: condition in them allows only OpenClaw's account.
FIRST_MESSAGE = "/etc/openclaw/first-message.mjs"
WARM_PROGRAM = "/etc/openclaw/openclaw-warm"
WARM_SERVICE = "/etc/systemd/user/openclaw-warm.service"
WARM_TIMER = "/etc/systemd/user/openclaw-warm.timer"
#: This command waits until the first message is answered, or until it has failed. A failure does not matter here, for
#: example if the model host is off: the timer tries again.
SEND_FIRST_MESSAGE = unit_call(ACCOUNT, f"start {Path(WARM_SERVICE).name}")
SECRET = Secret(TOKEN, ACCOUNT, ACCOUNT)
#: OpenClaw's exit status when it does not open its state (EX_CONFIG of sysexits(3)), and what a person does.
CANNOT_OPEN = (
    78,
    "OpenClaw cannot open its state. Next: see 'When OpenClaw does not open its state' in docs/openclaw.md",
)


def send_image(this: This) -> None:
    """Send the image. Loading it takes longest, so the host loads it while the rest of the house is deployed."""
    image(name="OpenClaw | Image", image=_image(this))


def deploy(this: This) -> None:
    """Deploy token, certificate, configuration and container, after the image is loaded."""
    house, port = this.house, this.house.port("openclaw")
    found = _image(this)
    loaded(name="OpenClaw | Image loaded", image=found)
    secrets = Component(
        directories=(
            Directory("/etc/openclaw", group=ACCOUNT, mode="0750"),
            Directory(TLS, group=ACCOUNT, mode="0750"),
            # Of the certificate's successor, on a host that has no authority.
            *(() if this.has("coordinator") else (Directory(f"{TLS}/{NEXT}", mode="0700"),)),
            Directory(places.STATE, ACCOUNT, ACCOUNT, "0700"),
            Directory(places.ARCHIVES, ACCOUNT, ACCOUNT, "0700"),
        ),
        secrets=(SECRET,),
    )
    component(name="OpenClaw | Folders, token", want=lambda: secrets)
    server_certificate(
        name="OpenClaw | Certificate",
        folder=TLS,
        owner=ACCOUNT,
        names=(house.vpn_name(this.member),),
        coordinator=house.coordinator.name,
        authority_file=certificate_path(house),
    )
    component(
        name="OpenClaw | Configuration, container",
        want=lambda: _container(this, found.name, port),
        instead=way(this),
    )


def way(this: This) -> Way | None:
    """How OpenClaw is upgraded: afterwards a first message is answered, since a gateway may say that it is ready and
    refuse all messages. None if its version stays."""
    step, uid = step_of(this, "openclaw"), account_number()
    if step is None or uid is None:
        return None
    shown = "systemctl --user show --property=InvocationID --value openclaw.service"
    # openclaw-warm writes this file when this start of the gateway has answered.
    look = (
        f'now=$({looking(ACCOUNT, shown)}); test -n "$now" && '
        f'test "$({looking(ACCOUNT, f"cat /run/user/{uid}/openclaw-warm")})" = "$now" && echo answered'
    )
    attempt = f"timeout {time_limits.UPGRADE_ANSWER} {SEND_FIRST_MESSAGE}"
    return Way(step, look, (f"user@{uid}.service",), attempt=attempt, tries=3, pause=5, keeps=(IMAGE_RECORD,))


def _image(this: This) -> Image:
    found = program("openclaw", this.profile.cpu, this.house)
    archive = found.files[0]
    return Image(
        name=image_name(found),
        archived_as=f"localhost/openclaw:{found.version}",
        archive=found.directory / archive.path,
        sha256=archive.sha256,
        account=ACCOUNT,
    )


def image_name(found: Program) -> str:
    """The image's name on a gateway. It contains a part of the digest, so different images have different names."""
    return f"localhost/openclaw:{found.version}-{found.files[0].sha256[:12]}"


def _container(this: This, image_name: str, port: int) -> Component:
    house = this.house
    uid = account_number()
    if uid is None:
        raise NotYet(f"the account {ACCOUNT} has no number before it is made")
    hosts = [
        (ollama_host(this.member, member), address)
        for member in house.with_role("model_hosts")
        if member != this.member
        for address in vpn_of(member).addresses[:1]
    ]
    choices = {member.name: choice_of(member) for member in house.with_role("model_hosts")}
    config = openclaw_config(house, this.member, model_servers(house, this.member, choices))
    controllers = this.profile.cgroup_controllers
    quadlet = quadlet_path(uid)
    container = render(
        "openclaw/openclaw.container.j2",
        image=image_name,
        user_namespace=USER_NAMESPACE,
        port=port,
        forward=house.port("ollama") if this.has("model_hosts") else "none",
        address=CONTAINER_ADDRESS,
        prefix=CONTAINER_PREFIX,
        router=CONTAINER_ROUTER,
        hosts=hosts,
        # Without the kernel's cgroup controller, Podman refuses to start a container that has the limit.
        pids=PIDS if "pids" in controllers else 0,
        memory=f"{MEMORY_GIB}g" if "memory" in controllers else "",
        start_seconds=time_limits.START,
        cannot_open=CANNOT_OPEN[0],
        archives=(places.ARCHIVES, places.INSIDE),
        own_sites=OWN_SITES,
        foreign=FOREIGN_TO_PODMAN,
        podman=PODMAN,
    )
    return Component(
        directories=(
            Directory("/etc/containers/systemd/users"),
            Directory(f"/etc/containers/systemd/users/{uid}"),
        ),
        files=(
            File(CONFIG, json.dumps(config, indent=2) + "\n", ACCOUNT, ACCOUNT, "0400"),
            File(quadlet, container),
            *(warming := _first_message(this, choices)),
        ),
        units=(
            service(house, this.member, uid),
            Unit(
                Path(WARM_TIMER).name,
                inputs=tuple(file.path for file in warming),
                then=SEND_FIRST_MESSAGE,
                enable=False,
                user=ACCOUNT,
            ),
        ),
    )


def _first_message(this: This, choices: Mapping[str, Choice]) -> tuple[File, ...]:
    """The files that send the gateway's first message, so that no person has to wait for the slow first answer."""
    # OpenClaw asks the first model host. It asks the others only if the first one fails.
    server, *_ = this.house.with_role("model_hosts")
    address = "127.0.0.1" if server == this.member else vpn_of(server).addresses[0]
    program = render(
        "openclaw/openclaw-warm.j2",
        host=ollama_host(this.member, server),
        address=f"{address}:{this.house.port('ollama')}",
        model=choices[server.name].entry.name,
        ready_seconds=time_limits.STARTED,
        answer_seconds=time_limits.FIRST_ANSWER,
        session_seconds=time_limits.SESSION,
    )
    return (
        File(FIRST_MESSAGE, static("openclaw/first-message.mjs")),
        File(WARM_PROGRAM, program, mode="0755", check="sh -n {}"),
        File(
            WARM_SERVICE,
            render(
                "openclaw/openclaw-warm.service.j2",
                seconds=time_limits.FIRST_MESSAGE,
                foreign=FOREIGN_TO_PODMAN,
                podman=PODMAN,
            ),
        ),
        File(WARM_TIMER, static("openclaw/openclaw-warm.timer")),
    )


@once_a_run
def _numbers() -> dict[str, int]:
    """Host name -> number (uid) of OpenClaw's account. It is kept for the whole run, because it does not change."""
    return {}


def account_number() -> int | None:
    """The number of OpenClaw's account on this host; None before it is made. Cost: one remote command per run."""
    if host.name not in _numbers():
        seen = ask(host, ComponentState, component=WHO).accounts
        if ACCOUNT not in seen:
            return None
        _numbers()[host.name] = seen[ACCOUNT]
    return _numbers()[host.name]


def quadlet_path(uid: int) -> str:
    """The path of the file that describes the container, for the account's number."""
    return f"/etc/containers/systemd/users/{uid}/openclaw.container"


def service(house: House, gateway: Member, uid: int) -> Unit:
    """The unit of the container. `uid` is the account's number. The deployment and a new token start this unit."""
    return Unit(
        "openclaw.service",
        inputs=(CONFIG, quadlet_path(uid), TOKEN, f"{TLS}/cert.pem", f"{TLS}/key.pem", IMAGE_RECORD),
        # The id of the image from which the container was made. If another image got its name since, this shows it.
        in_force="podman inspect --format '{{.Image}}' openclaw",
        # The status is not enough: OpenClaw first answers ready:false with status 200, and its web page answers any
        # unknown path with 200.
        ready=f"{from_itself(house, gateway)}/readyz | grep -q '\"ready\":true'",
        ready_seconds=time_limits.STARTED,
        then=SEND_FIRST_MESSAGE,
        final=CANNOT_OPEN,
        enable=False,
        user=ACCOUNT,
    )


def from_itself(house: House, gateway: Member) -> str:
    """A curl command that runs on the gateway's host and asks OpenClaw by its name, without a name server. The path is
    appended to it.

    It connects to the address in the VPN, as clients do. A connection to loopback does not use the container's network,
    so it would be answered even if OpenClaw does not answer clients.
    """
    name, port = house.vpn_name(gateway), house.port("openclaw")
    at = f'"{name}:{port}:$(timeout 5 tailscale ip -4)"'
    return f"curl --disable --silent --max-time 5 --resolve {at} https://{name}:{port}"
