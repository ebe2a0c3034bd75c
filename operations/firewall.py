"""Put a host's nftables rules in force so that they cannot lock the controller out for good."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator

from pyinfra import logger
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.exceptions import ConnectError

from operations.component import compared, install_files, pack, start_unit
from plan.want import Component

ROLLBACK = "private-ai-firewall-rollback"
#: Seconds after which the old rules come back unless a new SSH connection has succeeded.
ROLLBACK_SECONDS = 45
BEFORE = "/var/lib/private-ai/firewall.before"


@operation()
def firewall(
    want: Callable[[], Component], rules: str, table: str
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Own the nftables table `table` (inet), its rules file `rules` and the unit that loads it at boot.

    Changed rules are checked, then a timer is armed on the host that brings the old ones back, then they are loaded,
    then a new SSH connection from the controller stops the timer. A second run costs one remote command.
    """
    todo = yield from compared(want)
    if not todo:
        return
    yield StringCommand(arm_rollback(rules, table))
    if todo.directories or todo.files:
        yield StringCommand(install_files(todo.directories, todo.files), _stdin=pack(todo.directories, todo.files))
    for unit in todo.units:
        yield StringCommand(start_unit(unit))
    yield FunctionCommand(_confirm, (), {})


def arm_rollback(rules: str, table: str) -> str:
    """Keep the rules in force and their file, and have the host bring both back after ROLLBACK_SECONDS."""
    file, before = shlex.quote(rules), shlex.quote(BEFORE)
    back = (
        f"nft -f {before}; if test -e {before}.file; then mv -fT {before}.file {file}; else rm -f {file}; fi; "
        "rm -f /var/lib/private-ai/stamps/private-ai-firewall.service"
    )
    return "\n".join(
        [
            "set -e",
            f"systemctl stop --quiet {ROLLBACK}.timer 2>/dev/null || true",
            "install -d -m 0755 /var/lib/private-ai",
            # Loading this file gives back exactly the table that was there, or none.
            f"{{ printf 'table inet {table}\\ndelete table inet {table}\\n'; "
            f"nft list table inet {table} 2>/dev/null || true; }} > {before}",
            f"rm -f {before}.file; test ! -e {file} || cp -p {file} {before}.file",
            f"systemd-run --quiet --collect --unit={ROLLBACK} --on-active={ROLLBACK_SECONDS} "
            f"--timer-property=AccuracySec=1s sh -c {shlex.quote(back)}",
        ]
    )


def _confirm(state: State, host: Host) -> bool:
    """Stop the timer through a new connection: the one at hand would live on under any rules."""
    connector = host.connector_cls(state, host)
    try:
        connector.connect()
        good, output = connector.run_shell_command(
            StringCommand(f"systemctl stop {ROLLBACK}.timer"), False, False, _sudo=bool(host.data.get("_sudo", False))
        )
        said = output.stderr
    except ConnectError as error:
        good, said = False, str(error)
    finally:
        client = getattr(connector, "client", None)
        if client is not None:
            client.close()
    if not good:
        logger.error(
            f"{host.print_prefix}the new firewall rules refuse a new SSH connection ({said}); the old rules "
            f"return within {ROLLBACK_SECONDS} s. Next: put this computer's address into admin_networks."
        )
    return good
