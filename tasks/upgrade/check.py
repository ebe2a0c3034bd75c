"""Upgrades: what a run says and checks before a program gets another version, and how that is done on a host."""

from __future__ import annotations

from pyinfra import host

from artifacts import advisories, pins
from artifacts.errors import PinError
from facts.upgrade import DataSizes
from operations.engine.answers import ask
from operations.engine.run import this_run
from operations.upgrade.follow import recovered
from plan.engine.errors import SettingError
from plan.upgrade.advisories import why
from plan.upgrade.going_back import ROLES
from plan.upgrade.notes import busy, left
from plan.upgrade.room import room_line, room_needs, room_problems
from plan.upgrade.versions import Step, refusals, steps
from tasks.engine.hosts import This
from tasks.engine.house import WrongInput
from tasks.engine.programs import program
from tasks.ollama_model import choice_of


def due(this: This) -> tuple[Step, ...]:
    """The programs of a host that get another version in this run."""
    names = {"tailscale", *(name for role, name in ROLES.items() if this.has(role))}
    pinned = {name: pin.version for name, pin in pins.load().programs.items() if name in names}
    return steps(this.member.name, this.profile.installed, pinned)


def step_of(this: This, name: str) -> Step | None:
    """The step of one program of a host; None if its version stays."""
    return next((step for step in due(this) if step.program == name), None)


def recover(this: This) -> None:
    """Put back what an upgrade has changed that was cut off."""
    recovered(name="Upgrade | What was cut off", notes=this.profile.upgrades)


def check_path(this: This) -> tuple[list[SettingError], list[str]]:
    """Problems and warnings about versions, before anything is obtained: ways that are not allowed, upgrades that are
    at work, and what earlier ones have left."""
    name, wanted = this.member.name, due(this)
    problems = busy(name, this.profile.upgrades)
    problems += refusals(wanted, this_run().command_line.inventory or "inventory.py")
    return problems, left(name, this.profile.upgrades, wanted)


def check_room(this: This) -> list[SettingError]:
    """Say what changes its version, and why. Returns problems about room. A run that upgrades nothing asks nothing."""
    wanted = due(this)
    if not wanted:
        return []
    cpu, machine, gpu = this.profile.cpu, this.profile.machine, False
    if this.has("model_hosts"):
        gpu = choice_of(this.member).place == "VRAM"
    sizes = {
        step.program: -(-sum(file.size for file in program(step.program, cpu, this.house, gpu).files) // 2**20)
        for step in wanted
    }
    needs = room_needs(wanted, ask(host, DataSizes, programs=tuple(step.program for step in wanted)), sizes)
    try:
        known = advisories.load()
    except PinError as error:
        raise WrongInput(f"{error} (nothing was changed). Next: git checkout artifacts/advisories.yaml") from error
    for step in wanted:
        host.log(f"{step}: {why(step, known)}")
    host.log(room_line(machine, needs))
    return room_problems(this.member.name, wanted, machine, needs)
