"""Ollama: the model server. It listens on loopback. For a gateway on another host, a socket listens on the VPN
address."""

from __future__ import annotations

import json

from operations.engine.component import component
from operations.ollama import answers, asks, token
from operations.ollama import model as lay_down
from operations.upgrade.way import Way
from plan.engine.want import Component, Directory, File, Unit
from plan.house.house import House
from plan.ollama.recorded_choice import RECORD, record, recorded_model
from plan.openclaw import time_limits
from plan.verification import is_vpn
from tasks.engine.hosts import This, vpn_of
from tasks.engine.programs import program, program_want, running_program
from tasks.engine.texts import render
from tasks.ollama_model import choice_of, memory_of, model_of
from tasks.upgrade.check import step_of

UNIT = "/etc/systemd/system/ollama.service"
VPN_SOCKET = "ollama-vpn.socket"
SOCKET = f"/etc/systemd/system/{VPN_SOCKET}"
FORWARD = "/etc/systemd/system/ollama-vpn.service"
BINARY = "/usr/local/bin/ollama"


def manifest_path(name: str) -> str:
    """The path of a model's manifest, below the manifests folder of Ollama's store. The model is from Ollama's
    library."""
    base, _, tag = name.partition(":")
    return f"registry.ollama.ai/library/{base}/{tag or 'latest'}"


def deploy(this: This) -> None:
    """Deploy program, unit and model. Then the model generates one token, because Ollama's health check also succeeds
    if it cannot run a model."""
    port, choice = this.house.port("ollama"), choice_of(this.member)
    gpu = choice.place == "VRAM"
    found = program_want(program("ollama", this.profile.cpu, this.house, gpu), ((BINARY, "bin/ollama"),))
    name = choice.entry.name
    found_files = model_of(this.member)
    files = found_files.model
    unit = render("ollama/ollama.service.j2", port=port, context=choice.context, gpu=gpu, load_seconds=time_limits.LOAD)
    wanted = Component(
        programs=(found,),
        directories=(Directory("/var/lib/ollama", "ollama", "ollama", "0750"), Directory("/etc/private-ai")),
        files=(
            File(UNIT, unit),
            File(RECORD, json.dumps(record(choice, files.manifest_sha256, memory_of(this.profile)), indent=2) + "\n"),
        ),
        units=(*_out_of_the_way(this), service(this.house)),
    )
    component(name="Ollama | Program, service", want=lambda: wanted, instead=way(this))
    asks(manifest_path(name), port)
    lay_down(
        name=f"Ollama | Model {name}",
        model_name=name,
        manifest=manifest_path(name),
        manifest_file=files.manifest_path,
        manifest_sha256=files.manifest_sha256,
        blobs=[(blob.digest.replace(":", "-"), blob.size, blob.path) for blob in files.blobs],
        adopt=found_files.adopt,
        port=port,
    )
    answers(
        name="Ollama | One token",
        model_name=name,
        manifest=manifest_path(name),
        context=choice.context,
        port=port,
    )
    _forward(this, port)


def way(this: This) -> Way | None:
    """How Ollama is upgraded: afterwards the model that was there generates a token. None if its version stays."""
    step, model = step_of(this, "ollama"), recorded_model(this.profile.machine.model_record)
    if step is None:
        return None
    # The port of the unit that is there: old and new version may have another one.
    port = f"port=$(sed -n 's/^Environment=OLLAMA_HOST=.*://p' {UNIT})"
    look = f"{port}; {{ {token(*model, '$port')}; }} && echo token" if model else "exit 1"
    return Way(step, look, ("ollama.service",), tries=2)


def _out_of_the_way(this: This) -> tuple[Unit, ...]:
    """The socket for the VPN as a unit to stop, if it listens on other addresses than those of the VPN. This happens
    when somebody has changed its file. Then Ollama could not listen on loopback. `_forward` starts the socket again."""
    # The socket unit holds the port, or the service: systemd gives it to the service at the first connection.
    held = [each for each in this.profile.listeners if each.unit in (VPN_SOCKET, "ollama-vpn.service")]
    wide = [each for each in held if not is_vpn(this.house, each.address)]
    return (Unit(VPN_SOCKET, stopped=True),) if wide else ()


def _forward(this: This, port: int) -> None:
    unit = forwarder(this)

    def wanted() -> Component:
        if unit.stopped:
            return Component(units=(unit,))
        addresses = [
            f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            for address in vpn_of(this.member).addresses
        ]
        return Component(
            files=(
                File(SOCKET, render("ollama/ollama-vpn.socket.j2", addresses=addresses)),
                File(FORWARD, render("ollama/ollama-vpn.service.j2", port=port)),
            ),
            units=(unit,),
        )

    component(name="Ollama | Forward from the VPN", want=wanted)


def service(house: House) -> Unit:
    """The unit of the model server."""
    return Unit(
        "ollama.service",
        inputs=(UNIT, BINARY),
        in_force=running_program("ollama"),
        ready=f"curl --disable --silent --fail --max-time 5 http://127.0.0.1:{house.port('ollama')}/api/version",
    )


def forwarder(this: This) -> Unit:
    """The socket for gateways on other hosts, on the VPN address. A gateway on the same host uses loopback. If there is
    no gateway on another host, the socket is stopped."""
    if not this.house.served_elsewhere(this.house.row("ollama"), this.member):
        return Unit(VPN_SOCKET, stopped=True)
    return Unit(VPN_SOCKET, inputs=(SOCKET, FORWARD))
