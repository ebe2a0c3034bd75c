"""Run a script on any host of the inventory from inside an operation, and return its output."""

from __future__ import annotations

from paramiko import SSHException
from pyinfra.api import Host, StringCommand
from pyinfra.api.exceptions import ConnectError, PyinfraError

from operations.engine.as_root import NotRoot, as_root
from plan.engine.terminal_text import plain


class RemoteError(RuntimeError):
    """A script failed on a host. The message contains what the script printed, never what it read from standard
    input."""


class ConnectionLost(PyinfraError):
    """The connection to a host broke. Nobody knows whether the last command was carried out.

    tasks/engine/connection.py raises it for every connection.
    """


def run_on(target: Host, script: str, stdin: str | None = None) -> str:
    """Run `script` with sh on `target` and return its standard output. `stdin` may contain secrets: it is never shown.

    If the host is outside `--limit`, it is connected first. Raises RemoteError when the connection or the script fails.
    """
    if "\0" in script:
        raise RemoteError(f"{target.name}: a command would contain the character 0, and would end there")
    if not target.connected:
        try:
            target.connect(
                reason="this host is asked, and not deployed: another one needs its answer", raise_exceptions=True
            )
        except ConnectError as error:
            raise RemoteError(f"{target.name} could not be reached over SSH: {error}") from error
    try:
        good, output = target.run_shell_command(StringCommand(script), _stdin=stdin, **as_root(target))
    except (ConnectionLost, EOFError, OSError, SSHException) as error:
        raise RemoteError(f"{target.name}: the connection broke: {error}") from error
    except NotRoot as error:
        raise RemoteError(str(error)) from error
    if not good:
        raise RemoteError(f"{target.name}: {plain(output.stderr.strip() or output.stdout.strip())}")
    return str(output.stdout)
