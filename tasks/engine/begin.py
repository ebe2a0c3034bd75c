"""Begin a run, with rules that pyinfra itself does not have. A run without hosts is an error. A run that only looks
never changes anything. However a run ends, its message and its exit status say so.

config.py calls this module. pyinfra executes config.py before it loads the inventory.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click
import pyinfra
from pyinfra.api import Host, State
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import BaseStateCallback, StateStage
from pyinfra.context import ctx_state

from operations.engine import one_run, pyinfra_inside
from operations.engine.answers import forget, something_changes
from operations.engine.as_root import ask_no_password
from operations.engine.run import CommandLine, begin_run, this_run
from plan.backup.restoring import asked_roles
from plan.engine.as_root import ACCEPTED
from plan.engine.errors import SettingError
from plan.removal.request import Request, request
from plan.upgrade.going_back import Asked, asked
from tasks.engine.commands import alike
from tasks.engine.connection import keep_alive
from tasks.engine.ending import end_at_once
from tasks.engine.house import the_house
from tasks.engine.inventory import check_first, checked
from tasks.engine.pyinfra_speed import collect_less, spare
from tasks.engine.questions import ask_well
from tasks.engine.unforeseen_errors import in_words

#: Playbook -> the groups on whose hosts it runs, whatever --limit says. So a laptop that is off does not stop it. If it
#: needs other hosts, the playbook connects to them itself.
WHERE = {
    "backup.py": ("coordinator", "gateway"),
    "browser_approve.py": ("coordinator",),
    "device_add.py": ("coordinator",),
    "device_list.py": ("coordinator",),
    "device_remove.py": ("coordinator",),
    "node_key_rotate.py": ("coordinator",),
    "relay_key_rotate.py": ("coordinator",),
    "server_keys_rotate.py": ("coordinator", "gateway"),
    "token_rotate.py": ("gateway",),
}
#: The playbook whose hosts follow from what it is asked to remove.
REMOVES = "remove.py"
#: The playbook that runs on the hosts of the roles that it is asked for.
RESTORES = "restore.py"
#: The playbook that runs on the one host that it names.
GOES_BACK = "go_back.py"
#: Playbooks that report which hosts can be reached, or that need no host. pyinfra connects to no host for them, and
#: runs them once.
ASKING = frozenset({"backup_check.py", "backup_key.py", "rehearse.py", "status.py"})

#: Playbooks that may run while another run changes hosts. They change nothing, or only approve one browser.
BESIDE = frozenset({"browser_approve.py", "chat.py"})

#: The playbook that plans the deployment of every host to show what differs. It executes nothing.
LOOKS_ONLY = "diff.py"
#: Its exit status when it could not find out what differs. 0 and 1 are its answers.
NO_ANSWER = 2


class Changes(BaseStateCallback):
    """Forgets all answers of hosts after each operation that has changed something, or may have done so."""

    @staticmethod
    def operation_end(state: State, op_hash: str) -> None:
        if pyinfra_inside.may_have_changed(state, op_hash):
            something_changes()


def begin() -> None:
    """Remember the command line, and prepare the run. If --limit leaves no host, the run ends with an error; pyinfra
    would call it a success."""
    context = click.get_current_context(silent=True)
    if context is None:
        return
    _refuse_ways_to_root(context.params)
    ask_no_password()
    command = begin_run(
        CommandLine(
            str(context.params.get("inventory") or ""),
            tuple(context.params.get("limit") or ()),
            tuple(context.params.get("operations") or ()),
            dict(each.split("=", 1) for each in context.params.get("data") or () if "=" in each),
            bool(context.params.get("yes")),
            bool(context.params.get("dry")),
        )
    ).command_line
    state: Any = ctx_state.get()  # type: ignore[no-untyped-call]
    alike()
    if pyinfra.is_cli:
        check_first(command.inventory, command.files)
        in_words(state)
        keep_alive()
        ask_well(state, command.yes)
        end_at_once(state)
    spare()
    collect_less()
    names = {Path(file).name for file in command.files}
    wanted: list[Host] = []
    if not names <= BESIDE:
        one_run.want()
    looks_only = LOOKS_ONLY in names
    if looks_only:
        # After an error pyinfra would end with 1, which here means that something differs.
        click.ClickException.exit_code = NO_ANSWER

    def before(stage: StateStage) -> None:
        if stage == StateStage.Connect:
            _refuse_unknown_limit(state)
            groups = [_restored() if name == RESTORES else WHERE.get(name, ()) for name in names]
            if all(groups):
                roles = {role for each in groups for role in each}
                there = [host for host in state.inventory if roles & set(host.groups)]
                # If there are several gateways, --limit may choose one of them.
                pyinfra_inside.limit_to(state, [host for host in there if state.is_host_in_limit(host)] or there)
            elif names == {REMOVES}:
                reached = asked_removal().reached(the_house())
                pyinfra_inside.limit_to(state, [state.inventory.get_host(name) for name in reached])
            elif names == {GOES_BACK}:
                pyinfra_inside.limit_to(state, [state.inventory.get_host(asked_way_back().host)])
            state.add_callback_handler(Changes())
            if looks_only:
                # Whatever -y and --fail-percent say: the run looks for changes, every host has to answer, and the run
                # asks nobody.
                pyinfra_inside.look_only(state)
            if names <= ASKING:
                wanted.extend(pyinfra_inside.hosts_of(state))
                pyinfra_inside.limit_to(state, [])
        elif stage == StateStage.Prepare and wanted:
            # pyinfra needs a current host to run the playbook. Nothing is sent to this host for that.
            pyinfra_inside.limit_to(state, wanted)
            state.activate_host(wanted[0])
        elif stage == StateStage.Execute and not (looks_only or command.yes):
            # The run has asked a person, who may have answered much later. The hosts may have changed since.
            forget()
        elif stage == StateStage.Execute and looks_only:
            raise PyinfraError(f"playbooks/{LOOKS_ONLY} only looks; nothing was changed. Next: run deploy.py")

    pyinfra_inside.before_each_stage(state, before)


def asked_removal() -> Request:
    """What `playbooks/remove.py` is asked to remove. Raises PyinfraError, before any host is reached."""
    return checked(lambda: request(this_run().command_line.data, the_house()))


def _restored() -> tuple[str, ...]:
    """The roles that `playbooks/restore.py` is asked to restore. Raises PyinfraError, before any host is reached."""
    return checked(lambda: asked_roles(this_run().command_line.data))


def asked_way_back() -> Asked:
    """What `playbooks/go_back.py` is asked to take back. Raises PyinfraError, before any host is reached."""
    return checked(lambda: asked(this_run().command_line.data, the_house()))


def _refuse_ways_to_root(given: Mapping[str, Any]) -> None:
    """Refuse options such as --sudo on the command line. The verification and other playbooks would not know them, so
    they must be in the inventory."""
    for name, value in given.items():
        if value and re.search("sudo|dzdo|^su_", name):
            word = f"--{name.replace('_', '-')}"
            found = value if isinstance(value, str) else "given"
            step = "leave it out, and write this at each host that needs it, see docs/quick-start.md#3-ssh-keys"
            raise PyinfraError(str(SettingError(word, found, f"in the inventory: {ACCEPTED}", step)))


def leave(status: int = 0) -> NoReturn:
    """End a run that has nothing to execute. Otherwise pyinfra would ask whether to go on."""
    sys.stdout.flush()
    raise SystemExit(status)


def _refuse_unknown_limit(state: State) -> None:
    inventory, command = state.inventory, this_run().command_line
    accepted = f"a host ({', '.join(sorted(str(host.name) for host in inventory)) or 'there is none'}) or a group"
    if not len(inventory):
        raise PyinfraError(str(SettingError("inventory", command.inventory, "at least one host", "see inventory.py")))
    if not any(state.is_host_in_limit(host) for host in inventory):
        groups = [group for group in inventory.groups if group != command.inventory.removesuffix(".py")]
        raise PyinfraError(
            str(
                SettingError(
                    "--limit",
                    " ".join(command.limit),
                    f"{accepted} ({', '.join(groups)})",
                    "correct the name; nothing was changed",
                )
            )
        )
