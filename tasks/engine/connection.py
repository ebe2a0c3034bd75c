"""SSH connections of a run. Small packets are sent at once. If sshd allows few sessions at a time, a command waits
until it gets one. If a host does not answer any more, its connection is ended, and a message says so.

The functions here that replace pyinfra's own also work for hosts that are reached through other hosts (ProxyJump,
ProxyCommand).
"""

from __future__ import annotations

import logging
import re
import shlex
import socket
import time
from typing import Any, NoReturn

import gevent
from paramiko import Channel, ChannelException, SSHException, Transport
from pyinfra import logger
from pyinfra.api.exceptions import PyinfraError
from pyinfra.connectors.ssh import SSHConnector

from operations.engine.pyinfra_inside import (
    CONNECT,
    GET_FILE,
    NOTE_HOST_KEY,
    OPEN_SESSION,
    PUT_FILE,
    RUN_COMMAND,
    is_planning,
    know_host_key,
    names_of,
    open_channels,
    operation_of,
    transport_of,
)
from operations.engine.run import this_run
from operations.engine.run_on_host import ConnectionLost
from plan.engine.terminal_text import line

#: Seconds between two questions to a server. They also keep the connection in use, so that no router on the way forgets
#: it.
PAUSE = 15
#: If a host gives no answer for so many pauses (180 s), the run gives it up. A cable may be unplugged for 75 s, and TCP
#: may wait as long again before its next attempt.
PAUSES = 12
#: The question that OpenSSH's own client asks (ServerAliveInterval). If a server does not know it, it answers that,
#: which is enough.
QUESTION = "keepalive@openssh.com"

#: A command waits TURN seconds at most until sshd gives it a session. If no other command of this run is using the
#: connection, no session will become free, so it waits TURN_ALONE seconds at most. It asks every ASK_AGAIN seconds.
TURN, TURN_ALONE = 300, 10
ASK_AGAIN = 0.1

_connect, _open_session, _note_host_key = CONNECT.now(), OPEN_SESSION.now(), NOTE_HOST_KEY.now()


def keep_alive() -> None:
    """Use the functions of this module for all connections of this run."""
    CONNECT.put(connect)
    # The functions that send something to a host. tasks/engine/commands.py has already replaced RUN_COMMAND, so this
    # wraps its function.
    for place in (RUN_COMMAND, PUT_FILE, GET_FILE):
        place.put(_told(place.now()))
    NOTE_HOST_KEY.put(remember_key)
    OPEN_SESSION.put(open_session)
    # paramiko would print each refusal. The error at the end is enough.
    logging.getLogger("paramiko.transport").addFilter(lambda record: "open FAILED" not in record.getMessage())


def open_session(transport: Transport, *arguments: Any, **named: Any) -> Channel:
    """Open a session for one command, as soon as the server allows it.

    sshd allows a limited number of sessions in one connection (MaxSessions, 10 by default). A session that has just
    ended counts for a moment longer. All hosts that join at the same time use the coordinator's connection.
    Raises SSHException when the server allows no session.
    """
    begun = alone = time.monotonic()
    while True:
        try:
            channel: Channel = _open_session(transport, *arguments, **named)
            return channel
        except SSHException as error:
            # If two sessions are refused at the same time, paramiko keeps the reason of only one; the other error has
            # this general text.
            refused = isinstance(error, ChannelException) or str(error) == "Unable to open channel."
            if not refused or not transport.is_active():
                raise
            now = time.monotonic()
            alone = now if open_channels(transport) else alone
            if now - alone > TURN_ALONE or now - begun > TURN:
                raise SSHException(
                    "sshd takes no command. Next: in the host's /etc/ssh/sshd_config raise MaxSessions, 10 is usual, "
                    "and see that nothing else forbids commands to the user that logs in"
                ) from error
        gevent.sleep(ASK_AGAIN)


def next_step(said: str, command: str) -> str:
    """What to do about a connection that failed with these words. `command`: the `ssh` command to try by hand."""
    step = f"see that `{command}` works from here, with the same key"
    if "Administratively prohibited" in said:
        # sshd's words when it does not open the connection to the next host.
        return (
            "the jump host connects nobody to other hosts: write AllowTcpForwarding yes into its /etc/ssh/sshd_config, "
            f"systemctl reload ssh, and {step}"
        )
    # These are paramiko's words when sshd has ended the connection while paramiko tried the keys of the SSH agent
    # (paramiko/paramiko#1390). Key files come after the agent's keys, so they were not tried. PAM ends a connection in
    # the same way. If the connection ends before paramiko notices, pyinfra says "EOF error". The words are the same
    # when sshd asks for a second factor after the key, and nobody is there to answer.
    if any(words in said for words in ("No existing session", "transport shut down or saw EOF", "EOF error")):
        return (
            "perhaps the SSH agent has more keys than sshd allows in one login (MaxAuthTries), and sshd accepts none "
            "of the first ones: name the right key in the host's data, 'ssh_key': '~/.ssh/id_ed25519'. Or the key is "
            "right, but the account may not log in now: there is a file /etc/nologin on the host, or the account has "
            "expired. Or sshd asks for a password or a code after the key (AuthenticationMethods): let it take the key "
            f"alone from this computer (Match Address in sshd_config). Then {step}"
        )
    if "SSH protocol banner" in said:
        # OpenSSH 9.8 and newer closes connections of a computer from which logins have failed.
        step += ". If logins from here have just failed: sshd may refuse this computer for some minutes, so wait"
    return step


def connect(connector: SSHConnector) -> None:
    """Connect, and watch the connection from then on."""
    try:
        _connect(connector)
    except PyinfraError as error:
        step = next_step(str(error), by_hand(connector.host.name, connector.host.data))
        # Python's error numbers do not help people.
        said = re.sub(r"\[Errno (-?\d+|None)\] ", "", str(error))
        raise type(error)(f"{said}. Next: {step}") from error
    transport = transport_of(connector)
    if transport is None:
        return
    below = socket_of(transport)
    if below is not None and below.family in (socket.AF_INET, socket.AF_INET6):
        # paramiko leaves Nagle's algorithm on. That costs 40 ms for each remote command.
        below.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    gevent.spawn(watch, transport, PAUSE, PAUSES)


def by_hand(name: str, data: Any) -> str:
    """The ssh command with which a person connects to a host of the inventory, for messages. `data`: the host's
    data."""
    user, port = data.get("ssh_user"), data.get("ssh_port")
    place = str(data.get("ssh_hostname") or name)
    words = ["ssh", *(["-p", str(port)] if port else []), f"{user}@{place}" if user else place]
    return line(shlex.join(words))


def through_another(connector: Any) -> bool:
    """Whether a host is reached through another host (ProxyJump, ProxyCommand). Then it sees the other host's address,
    not the controller's."""
    transport = transport_of(connector)
    return transport is not None and not isinstance(transport.sock, socket.socket)


def socket_of(transport: Transport) -> socket.socket | None:
    """The socket of a connection on this computer. With jump hosts, it is the socket to the first jump host. None with
    a ProxyCommand."""
    below: object = transport.sock
    while isinstance(below, Channel):
        below = below.get_transport().sock
    return below if isinstance(below, socket.socket) else None


def watch(transport: Transport, pause: float, pauses: int) -> None:
    """Ask the server a question every `pause` seconds. If there is no answer for `pauses` pauses, end the connection.

    Without this, the run would wait for ever for a host that lost its power: TCP on this computer does not notice it,
    and behind a jump host it cannot notice it.
    """
    gevent.sleep(pause)
    while transport.is_active():
        answered = gevent.spawn(transport.global_request, QUESTION)
        # Pauses are counted, not seconds: if this whole process stands still (while somebody types a password), it
        # cannot read an answer either.
        for _ in range(pauses):
            answered.join(pause)
            if answered.ready():
                break
        else:
            this_run().silent.add(transport)
            transport.close()
            answered.kill(block=False)
            return
        gevent.sleep(pause)


def remember_key(client: Any, hostname: str, key: Any) -> None:
    """Write a server's new key into the file, as pyinfra does, and also add it to the keys that this run knows.

    Otherwise the next connection of this run would not know the key, and would write the same line again.
    """
    _note_host_key(client, hostname, key)
    know_host_key(client, hostname, key)


def _told(way: Any) -> Any:
    """A function that calls `way`. If the connection is lost meanwhile, it says so, and raises ConnectionLost."""

    def told(connector: SSHConnector, *arguments: Any, **named: Any) -> Any:
        try:
            done = way(connector, *arguments, **named)
        except (EOFError, OSError, SSHException) as error:
            if isinstance(error, EOFError) or is_lost(connector):
                _lost(connector, error)
            raise
        # If the connection breaks, paramiko returns the status -1 for the command, and gives no reason.
        if done is False or (isinstance(done, tuple) and not done[0]):
            # This lets the greenlet that has read the end of the connection mark the connection as ended.
            gevent.sleep(0)
            if is_lost(connector):
                _lost(connector)
        return done

    return told


def is_lost(connector: SSHConnector) -> bool:
    """Whether a connection has ended."""
    transport = transport_of(connector)
    return transport is None or not transport.is_active()


def _lost(connector: SSHConnector, error: BaseException | None = None) -> NoReturn:
    host = connector.host
    silent = transport_of(connector) in this_run().silent
    why = f"no answer for {PAUSE * PAUSES} s" if silent else "it was closed, or the network went away"
    logger.error(
        f"{host.print_prefix}the connection over SSH was lost during {at_work(connector.state, host)} ({why}). Next: "
        f"see that {host.name} is up and that `ssh` to it works from here, then run this again"
    )
    raise ConnectionLost(
        f"the connection to {host.name} was lost; {left_behind(connector.state)}. Next: run this again"
    ) from error


def at_work(state: Any, host: Any) -> str:
    """What the run is doing on a host, in words: the name of the operation, or the part of the run."""
    operation = operation_of(host)
    if operation and state.is_executing:
        return f"'{', '.join(names_of(state, operation))}'"
    return "the run" if state.is_executing else "planning"


def left_behind(state: Any) -> str:
    """In words, in which state a run leaves the hosts if it ends now."""
    if is_planning(state):
        return "nothing was changed"
    return "what was done stays, what was begun on a host may go on there, and the next run finishes the rest"
