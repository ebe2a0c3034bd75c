"""Commands as root in operations, and the end of a run on a host that does not allow them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyinfra import state
from pyinfra.api import Host
from pyinfra.api.exceptions import PyinfraError
from pyinfra.connectors.util import CommandOutput

from operations.engine.pyinfra_inside import RETRY_WITH_PASSWORD
from plan.engine.as_root import WAYS, refusal
from plan.engine.errors import SettingError


class NotRoot(PyinfraError):
    """The user that logs in on a host cannot become root there, or cannot run commands at all."""


def as_root(host: Host) -> dict[str, Any]:
    """pyinfra's arguments for a command as root. pyinfra adds them by itself only to operations and facts."""
    return {word: bool(host.data.get(word)) for word in WAYS}


def refused(host: Host, arguments: Mapping[str, Any], status: int, said: str) -> SettingError | None:
    """The error when a command failed because the user that logs in cannot become root; None when it failed for another
    reason. `said` is the command's standard error, `status` its exit status."""
    return refusal(host.name, {**arguments, "ssh_user": host.data.get("ssh_user")}, status, said)


def ask_no_password() -> None:
    """End the run at the first command that a host does not run as root. pyinfra would ask for sudo's password, but the
    verification has no person to ask."""
    RETRY_WITH_PASSWORD.put(_as_it_is)


def _as_it_is(
    host: Host, arguments: Mapping[str, Any], execute: Callable[[], tuple[int, CommandOutput]]
) -> tuple[int, CommandOutput]:
    status, output = execute()
    wrong = refused(host, arguments, status, output.stderr)
    if wrong is not None:
        raise NotRoot(f"{wrong}{'' if state.is_executing else ' (nothing was changed)'}")
    return status, output
