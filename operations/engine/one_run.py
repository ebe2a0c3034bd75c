"""One run at a time: before a run changes something, it holds its hosts. Meanwhile, every other run is refused.

A process on the host holds it. This process ends when the SSH connection of its run ends. So a run that is killed, or
that loses its connection, leaves nothing behind that a person would have to remove.
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

#: This run sends each host a line every PAUSE seconds. If no line arrives for PATIENCE seconds, the host is no longer
#: held. sshd alone would need hours to notice that a controller has lost its power.
PAUSE, PATIENCE = 15, 180
#: For so many seconds a run waits for another run that is just ending.
ENDING = 2
#: The holder's lines begin with these words, because a shell may print a greeting before them.
#: Written by a host that makes a backup by itself, which holds the lock of LAST_RUN meanwhile.
OWN_BACKUP = f"{LAST_RUN.rpartition('/')[0]}/own-backup"
HELD, BUSY, CHANGED = "@@ held", "@@ busy ", "@@ changed "


class BusyError(PyinfraError):
    """Another run is changing a host, or has changed it since this run looked at it. This run has changed nothing."""


def want() -> None:
    """Have this run hold its hosts before its first change."""
    this_run().holds.wanted = True


def seen(name: str, last_run: str) -> None:
    """Remember the content of LAST_RUN on a host for which this run plans. The plan is right for that state of the host
    only."""
    this_run().holds.seen[name] = last_run


def hold() -> None:
    """Hold all hosts of this run, unless this run holds them already. It is called before each change; only the first
    call costs remote commands.

    Raises BusyError when another run is changing one of the hosts. Then nothing has been changed by this run.
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
            # Every run takes the hosts in the same order. So if two runs begin together, one of them gets all hosts.
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

    `who` names the run for people. `before` is the content that LAST_RUN must still have; None accepts any content.
    LAST_RUN says who started the last run, and when it ended, if it has ended.
    """
    folder = LAST_RUN.rpartition("/")[0]
    unchanged = "" if before is None else f'[ "$last" = {shlex.quote(before)} ] || {{ echo "{CHANGED}$last"; exit 1; }}'
    lines = [
        "set -e; umask 077",
        f"mkdir -p {folder}; exec 9<>{LAST_RUN}",
        # Only the first line is read. The second line says when a run ended, and a run that has ended holds no host.
        f"flock -w {ENDING} 9 || {{ {{ read -r last <{OWN_BACKUP} || read -r last <{LAST_RUN} || :; }} 2>/dev/null",
        f'echo "{BUSY}$last"; exit 1; }}',
        f"last=$(cat {LAST_RUN})",
        unchanged,
        f"from=$({CAME_BY})",
        f"printf '%s from %s since %s\\n' {shlex.quote(who)} \"${{from%% *}}\" \"$(date -u '+%F %T UTC')\" >{LAST_RUN}",
        f"echo '{HELD}'",
        f"while read -r -t {PATIENCE} _; do :; done",
        f"date -u '+it ended at %F %T UTC' >>{LAST_RUN}",
    ]
    # bash, because the `read` of dash has no time limit. --norc, because bash reads .bashrc when it thinks that sshd
    # has started it, and options that root has set there, such as noclobber, would break this script.
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
            # The session of the holder stays open. Commands need a second one, so this tries whether sshd allows it.
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
            f"another run is at work on {name}: {line(said.removeprefix(BUSY))}. This run has changed nothing. Next: "
            "wait until the other run has ended, or end it, then run this again. If the other run has lost its "
            f"connection, the host is free within {PATIENCE // 60} minutes"
        )
    if said.startswith(CHANGED):
        return BusyError(
            f"{name} is not any more as this run found it: another run was at work there meanwhile "
            f"({line(said.removeprefix(CHANGED)) or 'or it was restarted'}). This run has changed nothing. Next: run "
            "this again"
        )
    return BusyError(
        f"{name} cannot be held for this run: {line(wrong.strip())}. Nothing was changed. Next: run this again"
    )


def _still_held() -> None:
    for name, channel in this_run().holds.held.items():
        # If the connection is lost, the next command over it reports that.
        if channel.exit_status_ready() and channel.get_transport().is_active():
            raise PyinfraError(
                f"{name} does not hold itself for this run any more: it heard nothing from this computer for "
                f"{PATIENCE} s, for example because the computer slept. Another run may have begun there. Next: run "
                "this again"
            )


def _live() -> None:
    """Send each host a line every PAUSE seconds, as a sign that this run is alive."""
    while True:
        gevent.sleep(PAUSE)
        for channel in this_run().holds.held.values():
            try:
                channel.sendall(b"\n")
            except (EOFError, OSError, SSHException):
                continue


def _who() -> str:
    """This run's account and computer. People whose run is refused read it."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):
        account = f"account {os.getuid()}"
    return line(f"{account}@{socket.gethostname()}")
