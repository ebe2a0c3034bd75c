"""Drift: the stamp on each host says what was deployed there. The report says what a run would change now."""

from __future__ import annotations

import json
import subprocess
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from pyinfra import host, inventory

from facts.engine.file_contents import Contents
from operations.engine.announced_changes import planned
from operations.engine.run import once_a_run, this_run
from operations.engine.stamp import stamped
from plan.drift import Found, HostDrift, as_json, content_diff, report
from plan.engine.stamp import UNKNOWN, Deployed, parse_revision, parse_stamp, settings_digest
from tasks.engine.begin import leave
from tasks.engine.hosts import This
from tasks.engine.house import entries
from tasks.engine.programs import program
from tasks.ollama_model import choice_of

COMPONENT = "Drift"
REPOSITORY = Path(__file__).parent.parent
STYLES: dict[str, dict[str, Any]] = {
    "host": {"bold": True},
    "component": {"bold": True},
    "change": {"fg": "yellow"},
    "removed": {"fg": "red"},
    "added": {"fg": "green"},
    "place": {"fg": "cyan"},
    "good": {"fg": "green"},
}
_ASKING = threading.Lock()


def deploy(this: This) -> None:
    """On every host, after all other operations on all hosts: write the stamp."""
    stamped(name=f"{COMPONENT} | Stamp", what=deployed(this), before=parse_stamp(this.profile.stamp))


def deployed(this: This) -> Deployed:
    """The content that a run now would write into this host's stamp."""
    names = [("tailscale", False)]
    if this.has("coordinator"):
        names.append(("headscale", False))
    if this.has("model_hosts"):
        names.append(("ollama", choice_of(this.member).place == "VRAM"))
    if this.has("gateway"):
        names.append(("openclaw", False))
    programs = {name: program(name, this.profile.cpu, this.house, gpu).version for name, gpu in names}
    return Deployed(revision(), settings(), {**programs, "pyinfra": version("pyinfra")}, this.member.name)


@once_a_run
def settings() -> str:
    """The digest of this run's inventory and group data."""
    return settings_digest(entries())


def revision() -> str:
    """The commit of this repository, with "+" when a file was changed after it; or UNKNOWN. Git is asked once per run.

    The files in which people describe their house do not count: the digest of settings covers them.
    """
    # Several hosts are planned at the same time, and each needs the revision.
    with _ASKING:
        return _revision()


@once_a_run
def _revision() -> str:
    asked = ask_git()
    said = asked.communicate()[0] if asked else ""
    return parse_revision(said) if asked and asked.returncode == 0 else UNKNOWN


@once_a_run
def ask_git() -> subprocess.Popen[str] | None:
    """Start git. It compares the files while the run asks the hosts. None if git is not installed."""
    settings = ("inventory*.py", "group_data", Path(this_run().command_line.inventory or "inventory.py").name)
    excluded = (f":(exclude){name}" for name in settings)
    # No lock: this must not wait for somebody who commits at this moment, and must not make them wait.
    command = ["git", "--no-optional-locks", "-C", str(REPOSITORY), "status", "--porcelain=v2", "--branch"]
    try:
        return subprocess.Popen(
            [*command, "--untracked-files=no", "--", ".", *excluded],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        return None


@once_a_run
def _planned() -> dict[str, HostDrift]:
    """Host name -> what differs there, for the hosts that have been planned so far."""
    return {}


def tell(this: This) -> None:
    """After the deployment was planned for this host: note what differs. The call for the last host prints the report
    for all hosts and ends the run: with status 0 when nothing differs, with 1 when something does."""
    found = []
    for operation, changes in planned(inventory.get_host(host.name)):
        component = operation.split(" | ")[-2]
        # The stamp itself is left out: a new revision that would change nothing else is no drift.
        found += [(component, change) for change in changes if component != COMPONENT]
    shown = [change.shown for _, change in found if change.shown]
    present = iter(host.get_fact(Contents, of=shown) if shown else ())
    planned_hosts = _planned()
    planned_hosts[host.name] = HostDrift(
        host.name,
        parse_stamp(this.profile.stamp),
        deployed(this),
        tuple(
            Found(component, change, content_diff(change, next(present)) if change.shown else ())
            for component, change in found
        ),
    )
    if len(planned_hosts) < len(inventory.get_active_hosts()):
        return
    hosts = [planned_hosts[name] for name in sorted(planned_hosts)]
    if host.data.get("json"):
        click.echo(json.dumps(as_json(hosts), indent=2))
    else:
        click.echo()
        for style, line in report(hosts):
            # click removes the colours if standard output is not a terminal.
            click.echo(click.style(line, **STYLES.get(style, {})))
    leave(1 if any(each.found for each in hosts) else 0)
