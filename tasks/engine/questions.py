"""Questions to the person at the terminal. While the person decides, connections are kept. If there is no terminal, a
message says what to do instead."""

from __future__ import annotations

import select
import sys
from typing import Any

from paramiko import SSHException
from pyinfra.api.exceptions import PyinfraError

from operations.engine.pyinfra_inside import ASK_ABOUT_HOST_KEY, ASK_WHETHER_TO_GO_ON, is_planning


def ask_well(state: Any, yes: bool) -> None:
    """Replace pyinfra's questions by those of this module. `yes`: the run was started with -y."""
    ASK_WHETHER_TO_GO_ON.put(lambda: go_on(state))
    ASK_ABOUT_HOST_KEY.put(lambda question: key_is_right(question, yes))


def go_on(state: Any) -> str:
    """The answer to "press enter to execute" or "one of more hosts failed, continue?": empty for yes.

    While planning, it raises PyinfraError if nobody can answer or the answer is no. This ends the run with status 1.
    pyinfra itself would end with success, and in `deploy && verify` the second command would run.
    """
    planned = is_planning(state)
    try:
        answer = _line()
    except EOFError as error:
        if not planned:
            return "no terminal"
        raise PyinfraError(
            "nobody can be asked here: standard input is no terminal, or it was closed (nothing was changed). "
            "Next: add -y, or run it in a terminal"
        ) from error
    if answer and planned:
        raise PyinfraError("stopped by your answer (nothing was changed). Next: press enter alone to go on, or add -y")
    return answer


def key_is_right(question: str, yes: bool) -> str:
    """The answer to "do you want to continue", asked about the key of a host that SSH does not know: a jump host.

    If nobody can answer, it raises SSHException, so that the connection to that host fails.
    """
    if not yes and sys.stdin.isatty():
        return input(question)
    name = question.removeprefix("No host key for ").partition(" found in ")[0]
    raise SSHException(
        f"SSH does not know the host {name} on the way, and nobody can be asked whether its key is right. Next: run "
        f"`ssh {name}` once by hand and compare the key that it shows, then run this again"
    )


def _line() -> str:
    """A line of standard input. Until it is there, connections are kept: a person may need an hour to answer."""
    if sys.stdin.isatty():
        # This is gevent's select, which lets other greenlets work meanwhile: pyinfra has replaced Python's.
        select.select([sys.stdin], [], [])
    return input()
