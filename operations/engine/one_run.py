"""One run at a time: a run that is going to change something holds its hosts first, and another is refused meanwhile.

A host is held by a process on it, which ends with the SSH connection that it came by. So a run that is killed, or that
loses its connection, leaves nothing that somebody would have to remove.
"""

from __future__ import annotations

import getpass
import os
import shlex
import socket
from typing import Any

import gevent
from paramiko import ChannelException, SSHException
from pyinfra import state
from pyinfra.api import Host
from pyinfra.api.exceptions import PyinfraError

from facts.base.profile import CAME_BY
from operations.engine.as_root import as_root
from operations.engine.pyinfra_inside import command_line_on, transport_of
from operations.engine.run import this_run
from operations.engine.run_on_host import ConnectionLost
from plan.base.profile import LAST_RUN
from plan.engine.command_environment import BEGIN, answer
from plan.engine.terminal_text import line

#: Seconds between two signs of life of this run, and without any after which a host lets it go. sshd alone would take
#: hours to notice a controller that has lost its power.
PAUSE, PATIENCE = 15, 180
#: Seconds for which a run waits for one that is just ending.
ENDING = 2
#: Before what the holder says; a shell may have greeted before.
HELD, BUSY, CHANGED = "@@ held", "@@ busy ", "@@ changed "


class BusyError(PyinfraError):
    """Another run is at work on a host, or has been since this one looked at it. This run has changed nothing."""


def want() -> None:
    """Have this run hold its hosts before its first change."""
    this_run().holds.wanted = True


def seen(name: str, last_run: str) -> None:
    """What stands in LAST_RUN on a host that this run plans for. What is planned holds for that state of the host."""
    this_run().holds.seen[name] = last_run


def hold() -> None:
    """Hold all hosts of this run, unless it does already. Called before each change; only the first costs something.

    Raises BusyError, before anything has changed, when another run is at work there.
    """
    holds = this_run().holds
    if not holds.wanted or not state.is_executing:
        return
    with holds.asking:
        if holds.why_not:
            raise holds.why_not
        if holds.held:
            _still_held()
            return
        try:
            # In the same order by every run, so that of two runs one gets them all.
            for host in sorted(state.inventory.get_active_hosts(), key=lambda each: str(each.name)):
                holds.held[str(host.name)] = _held(host)
        except PyinfraError as error:
            for channel in holds.held.values():
                channel.close()
            holds.held.clear()
            holds.why_not = error
            raise
        gevent.spawn(_live)


def holder(who: str, before: str | None) -> str:
    """A script that holds a host for as long as standard input brings a line every PATIENCE seconds.

    `who` is the run's name for people. `before` is what LAST_RUN must contain still, None for anything. LAST_RUN says
    of the last run who it was and, when it has ended, when it did.
    """
    folder = LAST_RUN.rpartition("/")[0]
    unchanged = "" if before is None else f'[ "$last" = {shlex.quote(before)} ] || {{ echo "{CHANGED}$last"; exit 1; }}'
    lines = [
        "set -e; umask 077",
        f"mkdir -p {folder}; exec 9<>{LAST_RUN}",
        # The first line alone: a host is not held by a run that has ended.
        f'flock -w {ENDING} 9 || {{ read -r last <{LAST_RUN} || :; echo "{BUSY}$last"; exit 1; }}',
        f"last=$(cat {LAST_RUN})",
        unchanged,
        f"from=$({CAME_BY})",
        f"printf '%s from %s since %s\\n' {shlex.quote(who)} \"${{from%% *}}\" \"$(date -u '+%F %T UTC')\" >{LAST_RUN}",
        f"echo '{HELD}'",
        f"while read -r -t {PATIENCE} _; do :; done",
        f"date -u '+it ended at %F %T UTC' >>{LAST_RUN}",
    ]
    # dash's `read` waits for ever. bash reads .bashrc once more when it thinks that sshd has started it: root's own
    # options, such as noclobber, are not for this script.
    return f"exec bash --norc -c {shlex.quote(chr(10).join(filter(None, lines)))}"


def _held(host: Host) -> Any:
    """The channel to the process that holds a host. Raises BusyError, or ConnectionLost."""
    script = f"{BEGIN}\n{holder(_who(), this_run().holds.seen.get(str(host.name)))}"
    command = command_line_on(host, script, as_root(host))
    try:
        transport: Any = transport_of(host.connector)
        channel = transport.open_session(timeout=PATIENCE)
        try:
            _begin(channel, command, str(host.name))
            # The one that holds stays open, and commands need one beside it.
            transport.open_session(timeout=PATIENCE).close()
        except BaseException:
            channel.close()
            raise
    except ChannelException as error:
        raise BusyError(
            f"{host.name}: sshd allows one session at a time on a connection ({line(error)}); a run needs two. Nothing "
            f"was changed. Next: MaxSessions 10 in /etc/ssh/sshd_config on {host.name}, systemctl reload ssh"
        ) from error
    except (EOFError, OSError, SSHException) as error:
        raise ConnectionLost(
            f"the connection to {host.name} was lost ({line(error)}); nothing was changed. Next: run this again"
        ) from error
    return channel


def _begin(channel: Any, command: str, name: str) -> None:
    """Start the holder. Raises BusyError when it does not hold the host."""
    channel.settimeout(PATIENCE)
    channel.exec_command(command)
    said = next((found for text in channel.makefile("r") if (found := text.rstrip()).startswith("@@ ")), "")
    if said != HELD:
        heard = b"".join(channel.makefile_stderr("rb")).decode(errors="replace")
        raise _why_not(name, said, "\n".join(answer(heard.splitlines())))


def _why_not(name: str, said: str, wrong: str) -> BusyError:
    """Why a host is not held, from what the holder printed and wrote to standard error."""
    if said.startswith(BUSY):
        return BusyError(
            f"another run is at work on {name}: {line(said.removeprefix(BUSY))}. This one has changed nothing. Next: "
            "wait until that one has ended, or end it, then run this again. Of one that lost its connection the host "
            f"lets go within {PATIENCE // 60} minutes"
        )
    if said.startswith(CHANGED):
        return BusyError(
            f"{name} is not any more as this run found it: another run was at work there meanwhile "
            f"({line(said.removeprefix(CHANGED)) or 'or it was restarted'}). This one has changed nothing. Next: run "
            "this again"
        )
    return BusyError(
        f"{name} cannot be held for this run: {line(wrong.strip())}. Nothing was changed. Next: run this again"
    )


def _still_held() -> None:
    for name, channel in this_run().holds.held.items():
        # A connection that is lost is told by whatever goes over it next.
        if channel.exit_status_ready() and channel.get_transport().is_active():
            raise PyinfraError(
                f"{name} has let this run go: it heard nothing of it for {PATIENCE} s, as when a notebook sleeps. "
                "Another run may have begun there. Next: run this again"
            )


def _live() -> None:
    """Give each host a sign of life now and then."""
    while True:
        gevent.sleep(PAUSE)
        for channel in this_run().holds.held.values():
            try:
                channel.sendall(b"\n")
            except (EOFError, OSError, SSHException):
                continue


def _who() -> str:
    """This run's account and computer, for people who meet it."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):
        account = f"account {os.getuid()}"
    return line(f"{account}@{socket.gethostname()}")
