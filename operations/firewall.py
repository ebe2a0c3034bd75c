"""Put a host's nftables rules in force, in a way that cannot lock the controller out permanently."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from dataclasses import replace

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.exceptions import ConnectError

from operations.engine.announced_changes import differs
from operations.engine.answers import Want, is_wanted
from operations.engine.as_root import NotRoot, as_root
from operations.engine.component import compared, install_files, pack, start_unit
from operations.engine.shell import into_place
from plan.engine.difference import Change
from plan.engine.want import Unit
from plan.firewall.rules import LOADER, RULES, TABLE, TAKEN_BACK, TRACKING, TRIED, UNCONFIRMED

ROLLBACK = "private-ai-firewall-rollback"
#: The old rules return after so many seconds, unless a new SSH connection has succeeded.
ROLLBACK_SECONDS = 45
#: The file with the table as it was before the new rules were tried.
BEFORE = "/var/lib/private-ai/firewall.before"


def firewall(name: str, want: Want, left_over: bool) -> None:
    """Make the rules of one host what `want()` says. Registers the want of the operation `guarded`, then calls it."""
    is_wanted(host, want)
    guarded(name=name, want=want, left_over=left_over)


@operation()
def guarded(want: Want, left_over: bool) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Own the nftables table TABLE (inet), the wanted file RULES and the unit that loads it at boot.

    Steps for changed rules: The rules are checked. A timer is started on the host; when it ends, the old rules return.
    LOADER tells the kernel which connections are open, so that none is lost, and loads the new rules. (The unit uses
    the same program at boot.) Then the controller opens a new SSH connection, stops the timer and makes the new rules
    permanent. Until then, the file that is loaded at boot is the old one, so a restart also brings the old rules back.

    `left_over`: an earlier run was interrupted between these steps, or its rules were taken back. Then this operation
    first returns to the rules from before that run.
    """
    if left_over:
        differs(Change("firewall rules that an earlier run tried and did not confirm", "removed"))
        yield StringCommand(clean_up())
    todo = yield from compared(want)
    if not todo:
        return
    # Also if the file is right already: somebody may have changed the rules in the kernel, and they must be loaded
    # again.
    [wanted] = (file for file in want().files if file.path == RULES)
    files = (*(file for file in todo.files if file.path != RULES), replace(wanted, path=TRIED))
    yield StringCommand(install_files(todo.directories, files), _stdin=pack(files))
    if not todo.units:
        return
    yield StringCommand(try_rules())
    yield FunctionCommand(confirmed, (keep_rules(todo.units),), {})


def take_back() -> str:
    """A command that brings the old rules back. If the new rules were in force, it leaves a note for the next run."""
    noted = f"{{ date -u '+%F %T UTC' > {TAKEN_BACK} && rm -f {UNCONFIRMED}; }}"
    return f"{end_tracking()}; nft -f {BEFORE} && rm -f {TRIED} {BEFORE} && {{ test ! -e {UNCONFIRMED} || {noted}; }}"


def clean_up() -> str:
    """A script that undoes what an interrupted run has begun: it puts the old rules in force, and removes all files of
    the attempt."""
    return "\n".join(["set -e", undo(), f"rm -f {TAKEN_BACK}"])


def undo() -> str:
    """A script that stops the timer and puts the old rules in force, however far the attempt with new rules came."""
    return "\n".join(
        [
            f"systemctl stop --quiet {ROLLBACK}.timer 2>/dev/null || true",
            f"{end_tracking()} || true",
            f"if test -e {BEFORE}; then nft -f {BEFORE}; fi",
            f"rm -f {TRIED} {UNCONFIRMED} {BEFORE} {BEFORE}.new",
        ]
    )


def end_tracking() -> str:
    """A command that removes the table TRACKING. LOADER leaves this table behind if it is killed."""
    return f"nft 'table inet {TRACKING}; delete table inet {TRACKING}'"


def try_rules(load: str = f"{LOADER} {TRIED} strict") -> str:
    """A script that starts the timer, which takes the new rules back after ROLLBACK_SECONDS, and then loads them.

    `load` is the command that loads the file TRIED. If a step fails, the script undoes all steps.
    """
    return "\n".join(
        [
            "set -e; umask 077",
            f"undo() {{\n{undo()}\n}}",
            "trap '[ $? = 0 ] || undo' EXIT",
            # Loading this file restores exactly the table that was there, or removes the table if there was none. An
            # incomplete file would only remove the table, so the file is checked and renamed.
            f"{{ printf 'table inet {TABLE}\ndelete table inet {TABLE}\n'; "
            f"nft list table inet {TABLE} 2>/dev/null || true; }} > {BEFORE}.new",
            f"nft --check -f {BEFORE}.new",
            into_place(f"{BEFORE}.new", BEFORE),
            f"systemd-run --quiet --collect --unit={ROLLBACK} --on-active={ROLLBACK_SECONDS} "
            f"--timer-property=AccuracySec=1s sh -c {shlex.quote(take_back())}",
            load,
            f"date -u '+%F %T UTC' > {UNCONFIRMED}; sync -- {UNCONFIRMED}",
            # If the steps took longer than the timer, the host has taken the rules back already, or is about to.
            f"systemctl is-active --quiet {ROLLBACK}.timer",
        ]
    )


def keep_rules(units: tuple[Unit, ...]) -> str:
    """A script that stops the timer and makes the new rules permanent. It fails if they were taken back already."""
    return "\n".join(
        [
            "set -e",
            f"systemctl stop {ROLLBACK}.timer",
            f"test -e {UNCONFIRMED} || {{ echo 'they were taken back already' >&2; exit 1; }}",
            into_place(TRIED, RULES),
            *(start_unit(unit) for unit in units),
            f"rm -f {UNCONFIRMED} {BEFORE}",
        ]
    )


def confirmed(state: State, host: Host, script: str) -> bool:
    """Run `script`, which makes the rules permanent, over a new SSH connection. The connection of the run proves
    nothing: it would continue to work under any rules."""
    connector = host.connector_cls(state, host)
    try:
        connector.connect()
        good, output = connector.run_shell_command(StringCommand(script), False, False, **as_root(host))
        said = output.stderr
    except (ConnectError, NotRoot) as error:
        good, said = False, str(error)
    finally:
        client = getattr(connector, "client", None)
        if client is not None:
            client.close()
    if not good:
        logger.error(
            f"{host.print_prefix}the new firewall rules are not confirmed by a new SSH connection ({said}); the old "
            f"rules return within {ROLLBACK_SECONDS} s. Next: see that `ssh` works from here, then run this again"
        )
    return good
