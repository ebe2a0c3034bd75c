"""What pyinfra itself leaves open: a run without hosts is an error, and small packets go at once.

Called by config.py, which pyinfra executes before it loads the inventory.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import click
from pyinfra.api import Host, State
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import BaseStateCallback, StateStage
from pyinfra.context import ctx_state

from plan.errors import SettingError


@dataclass
class Run:
    """The arguments of the command line: `inventory` is the file's name, which pyinfra also makes a group of."""

    inventory: str = ""
    limit: Sequence[str] = ()
    files: Sequence[str] = ()
    #: `--data NAME=TEXT` as it was typed. pyinfra makes a number of 007, and nothing of null.
    data: Mapping[str, str] = field(default_factory=dict)
    #: Nobody is asked, or nothing is to happen.
    yes: bool = False
    dry: bool = False


RUN = Run()

#: Playbooks that are a matter of one group, whatever --limit says: a laptop that is off does not stop them. They reach
#: other hosts on their own account.
WHERE = {
    "browser_approve.py": "coordinator",
    "device_add.py": "coordinator",
    "device_list.py": "coordinator",
    "device_remove.py": "coordinator",
    "token_rotate.py": "gateway",
}


class NoDelay(BaseStateCallback):
    """Switch off Nagle's algorithm: paramiko leaves it on, which costs 40 ms for each remote command."""

    @staticmethod
    def host_connect(state: State, host: Host) -> None:
        client = getattr(host.connector, "client", None)
        if client is not None:
            client.get_transport().sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def begin() -> None:
    """Remember the arguments, and stop a run whose --limit leaves no host; pyinfra would call it a success."""
    context = click.get_current_context(silent=True)
    if context is None:
        return
    RUN.inventory = str(context.params.get("inventory") or "")
    RUN.limit = tuple(context.params.get("limit") or ())
    RUN.files = tuple(context.params.get("operations") or ())
    RUN.data = dict(each.split("=", 1) for each in context.params.get("data") or () if "=" in each)
    RUN.yes, RUN.dry = bool(context.params.get("yes")), bool(context.params.get("dry"))
    state: Any = ctx_state.get()  # type: ignore[no-untyped-call]
    set_stage = state.set_stage

    def set_stage_with_hosts(stage: StateStage) -> None:
        if stage == StateStage.Connect:
            _refuse_unknown_limit(state)
            groups = {WHERE.get(Path(file).name, "") for file in RUN.files}
            if all(groups):
                state.limit_hosts = [host for host in state.inventory if groups & set(host.groups)]
            state.add_callback_handler(NoDelay())
        set_stage(stage)

    state.set_stage = set_stage_with_hosts


def leave() -> NoReturn:
    """End a run that has nothing to execute, with status 0; pyinfra would ask whether to go on."""
    sys.stdout.flush()
    raise SystemExit(0)


def _refuse_unknown_limit(state: State) -> None:
    inventory = state.inventory
    accepted = f"a host ({', '.join(sorted(str(host.name) for host in inventory)) or 'there is none'}) or a group"
    if not len(inventory):
        raise PyinfraError(str(SettingError("inventory", RUN.inventory, "at least one host", "see inventory.py")))
    if not any(state.is_host_in_limit(host) for host in inventory):
        groups = [group for group in inventory.groups if group != RUN.inventory.removesuffix(".py")]
        raise PyinfraError(
            str(
                SettingError(
                    "--limit",
                    " ".join(RUN.limit),
                    f"{accepted} ({', '.join(groups)})",
                    "correct the name; nothing was done",
                )
            )
        )
