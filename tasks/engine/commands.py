"""Every command that pyinfra sends to a host gets the same environment there, and what a shell prints before the answer
is removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyinfra import state
from pyinfra.api import StringCommand
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput

from operations.engine.as_root import NotRoot
from operations.engine.pyinfra_inside import READ_OUTPUT, RUN_COMMAND
from plan.engine.command_environment import BEGIN, answer, unbegun
from tasks.engine.connection import is_lost

#: This line is added to an answer without the mark of its beginning: the host has run another program, or none.
NOT_BEGUN = "--- private-ai: the command was not run"


def alike() -> None:
    """Replace pyinfra's functions by those of this module. Facts, operations and pyinfra's own questions use them."""
    run, read = RUN_COMMAND.now(), READ_OUTPUT.now()

    def run_shell_command(self: SSHConnector, command: StringCommand | str, *flags: Any, **more: Any) -> Any:
        good, output = run(self, begun(command), *flags, **more)
        told = CommandOutput([each for each in output.combined_lines if each.line != NOT_BEGUN])
        # If the connection was lost, tasks/engine/connection.py reports that.
        if len(told.combined_lines) < len(output.combined_lines) and not is_lost(self):
            user = str(self.host.data.get("ssh_user") or "USER")
            wrong = unbegun(self.host.name, user, [each.line for each in told.combined_lines])
            raise NotRoot(f"{wrong}{'' if state.is_executing else ' (nothing was changed)'}")
        return good, told

    def read_buffer(name: str, lines: Iterable[str | bytes], *rest: Any, **more: Any) -> None:
        # The greeting is removed here, so that -v does not print it either.
        read(name, answer(_text(lines), otherwise=[NOT_BEGUN]), *rest, **more)

    RUN_COMMAND.put(run_shell_command)
    READ_OUTPUT.put(read_buffer)


def begun(command: StringCommand | str) -> StringCommand:
    """The command, with the lines before it with which every script begins. Parts that pyinfra hides stay hidden."""
    return StringCommand(BEGIN, command, _separator="\n")


def _text(lines: Iterable[str | bytes]) -> Iterator[str]:
    for line in lines:
        yield line if isinstance(line, str) else line.decode("utf-8")
