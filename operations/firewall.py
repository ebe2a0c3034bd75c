"""Put a host's nftables rules in force so that they cannot lock the controller out for good."""

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
#: Seconds after which the old rules come back unless a new SSH connection has succeeded.
ROLLBACK_SECONDS = 45
#: The table as it was before the rules that are being tried.
BEFORE = "/var/lib/private-ai/firewall.before"


def firewall(name: str, want: Want, left_over: bool) -> None:
    """Bring the rules of one host to what `want()` says: the operation `guarded`, which is said in advance."""
    is_wanted(host, want)
    guarded(name=name, want=want, left_over=left_over)


@operation()
def guarded(want: Want, left_over: bool) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Own the nftables table TABLE (inet), the wanted file RULES and the unit that loads it at boot.

    Changed rules are checked, then a timer is armed on the host that brings the old ones back. Then LOADER, by which
    the unit loads them too, makes the open connections known to the kernel as such, so that none is lost, and loads the
    new rules. Then a new SSH connection from the controller stops the timer and makes them permanent. Until then the
    file that is loaded at boot is the old one, so a restart brings the old rules back as well. `left_over`: a run
    before this one was cut off in between, or its rules were taken back; this one begins from the rules before that.
    """
    if left_over:
        differs(Change("what a run that did not end well has left of its firewall rules", "removed"))
        yield StringCommand(clean_up())
    todo = yield from compared(want)
    if not todo:
        return
    # Rules that were changed behind the unit's back are loaded again from a file that is as wanted.
    [wanted] = (file for file in want().files if file.path == RULES)
    files = (*(file for file in todo.files if file.path != RULES), replace(wanted, path=TRIED))
    yield StringCommand(install_files(todo.directories, files), _stdin=pack(files))
    if not todo.units:
        return
    yield StringCommand(try_rules())
    yield FunctionCommand(_confirm, (todo.units,), {})


def take_back() -> str:
    """Bring the rules from before back. Where the new ones were in force, leave word of it for the next run."""
    noted = f"{{ date -u '+%F %T UTC' > {TAKEN_BACK} && rm -f {UNCONFIRMED}; }}"
    return f"{end_tracking()}; nft -f {BEFORE} && rm -f {TRIED} {BEFORE} && {{ test ! -e {UNCONFIRMED} || {noted}; }}"


def clean_up() -> str:
    """End what a run that was cut off has begun: the rules from before are in force, and nothing lies about."""
    return "\n".join(["set -e", undo(), f"rm -f {TAKEN_BACK}"])


def undo() -> str:
    """Have the rules from before in force, whatever of new ones was done, and no timer that would bring them back."""
    return "\n".join(
        [
            f"systemctl stop --quiet {ROLLBACK}.timer 2>/dev/null || true",
            f"{end_tracking()} || true",
            f"if test -e {BEFORE}; then nft -f {BEFORE}; fi",
            f"rm -f {TRIED} {UNCONFIRMED} {BEFORE} {BEFORE}.new",
        ]
    )


def end_tracking() -> str:
    """Remove the table TRACKING, which LOADER has left when it was killed."""
    return f"nft 'table inet {TRACKING}; delete table inet {TRACKING}'"


def try_rules() -> str:
    """Load the rules that are to be tried, after the host has been told to take them back in ROLLBACK_SECONDS.

    When something of it fails, nothing of it stays.
    """
    return "\n".join(
        [
            "set -e; umask 077",
            f"undo() {{\n{undo()}\n}}",
            "trap '[ $? = 0 ] || undo' EXIT",
            # Loading this file gives back exactly the table that was there, or none. Half of it would take the table
            # away.
            f"{{ printf 'table inet {TABLE}\ndelete table inet {TABLE}\n'; "
            f"nft list table inet {TABLE} 2>/dev/null || true; }} > {BEFORE}.new",
            f"nft --check -f {BEFORE}.new",
            into_place(f"{BEFORE}.new", BEFORE),
            f"systemd-run --quiet --collect --unit={ROLLBACK} --on-active={ROLLBACK_SECONDS} "
            f"--timer-property=AccuracySec=1s sh -c {shlex.quote(take_back())}",
            f"{LOADER} {TRIED} strict",
            f"date -u '+%F %T UTC' > {UNCONFIRMED}; sync -- {UNCONFIRMED}",
            # A host that took longer has taken them back already, or was just about to.
            f"systemctl is-active --quiet {ROLLBACK}.timer",
        ]
    )


def keep_rules(units: tuple[Unit, ...]) -> str:
    """Stop the timer and make the rules that were tried permanent. Fails when they were taken back already."""
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


def _confirm(state: State, host: Host, units: tuple[Unit, ...]) -> bool:
    """Keep the rules, through a new connection: the one at hand would live on under any rules."""
    connector = host.connector_cls(state, host)
    try:
        connector.connect()
        good, output = connector.run_shell_command(StringCommand(keep_rules(units)), False, False, **as_root(host))
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
