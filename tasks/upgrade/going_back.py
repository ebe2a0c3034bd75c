"""Going back to the version from before the last upgrade, when a person asks for it."""

from __future__ import annotations

import click
from pyinfra import host

from facts.engine.component_state import looking
from facts.upgrade import KeptBefore
from operations.engine.answers import ask
from operations.engine.shell import into_place
from operations.upgrade.back import gone_back
from plan.engine.errors import SettingError
from plan.openclaw.configuration import ACCOUNT, IMAGE_RECORD
from plan.upgrade.going_back import Asked, lacking, told, way_back
from tasks.engine.hosts import This
from tasks.engine.house import WrongInput
from tasks.openclaw import account_number, quadlet_path

#: Program -> the unit that must not start at a boot before an upgrade that was cut off is taken back.
UNITS = {"headscale": "headscale.service", "tailscale": "tailscaled.service", "ollama": "ollama.service"}


def go_back(this: This, wanted: Asked) -> None:
    """Say what is lost, and have the host go back. Raises WrongInput, before anything has changed."""
    try:
        step, note = way_back(wanted, this.profile.upgrades, this.profile.installed)
    except SettingError as error:
        raise WrongInput(f"nothing was changed: {error}") from error
    kept = ask(host, KeptBefore, program=wanted.program)
    if problems := lacking(wanted, kept):
        raise WrongInput("\n    ".join(["nothing was changed:", *map(str, problems)]))
    click.echo("\n" + "\n".join(f"    {each}" for each in told(step, note, kept)) + "\n", err=True)
    uid = account_number() if wanted.program == "openclaw" else None
    gone_back(
        name=f"Upgrade | {step.program} back to {step.new}",
        step=step,
        waits=(UNITS.get(wanted.program, f"user@{uid}.service"),),
        before=_image_noted(uid) if uid is not None else "",
    )


def _image_noted(uid: int) -> str:
    """A script that notes the id of the image of OpenClaw's container, as its loading does (operations/openclaw)."""
    shown = looking(ACCOUNT, "podman image inspect --format '{{.Id}}' \"$image\"")
    return (
        f"image=$(sed -n 's/^Image=//p' {quadlet_path(uid)}); "
        f"{shown} >{IMAGE_RECORD}.new && {into_place(f'{IMAGE_RECORD}.new', IMAGE_RECORD)} || exit 1"
    )
