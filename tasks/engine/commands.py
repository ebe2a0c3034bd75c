"""Every command that pyinfra sends to a host has the same environment there, and its answer begins where it begins."""

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

#: The last line of an answer that did not begin: the host has run something else, or nothing.
NOT_BEGUN = "--- private-ai: the command was not run"


def alike() -> None:
    """Put this module's functions before pyinfra's own: facts, operations and what pyinfra itself asks come through."""
    run, read = RUN_COMMAND.now(), READ_OUTPUT.now()

    def run_shell_command(self: SSHConnector, command: StringCommand | str, *flags: Any, **more: Any) -> Any:
        good, output = run(self, begun(command), *flags, **more)
        told = CommandOutput([each for each in output.combined_lines if each.line != NOT_BEGUN])
        # A connection that is lost is told elsewhere.
        if len(told.combined_lines) < len(output.combined_lines) and not is_lost(self):
            user = str(self.host.data.get("ssh_user") or "USER")
            wrong = unbegun(self.host.name, user, [each.line for each in told.combined_lines])
            raise NotRoot(f"{wrong}{'' if state.is_executing else ' (nothing was changed)'}")
        return good, told

    def read_buffer(name: str, lines: Iterable[str | bytes], *rest: Any, **more: Any) -> None:
        # The greeting is not printed either, whatever -v says.
        read(name, answer(_text(lines), otherwise=[NOT_BEGUN]), *rest, **more)

    RUN_COMMAND.put(run_shell_command)
    READ_OUTPUT.put(read_buffer)


def begun(command: StringCommand | str) -> StringCommand:
    """The command behind the lines that every script begins with. What it hides stays hidden."""
    return StringCommand(BEGIN, command, _separator="\n")


def _text(lines: Iterable[str | bytes]) -> Iterator[str]:
    for line in lines:
        yield line if isinstance(line, str) else line.decode("utf-8")
