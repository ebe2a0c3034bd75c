"""SSH connections of a run: small packets go at once, commands wait for their turn where sshd takes few at a time, a
connection that is dead is ended, and its loss is told in words.

What is put in the place of pyinfra's own functions here works the same for hosts that are reached through others
(ProxyJump, ProxyCommand).
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

#: Seconds after which a connection is used again, so that no router between forgets it, and one question is answered.
PAUSE = 15
#: As many pauses without an answer are a dead host: 180 s. A cable that is out for 75 s has to be survived, and TCP may
#: wait as long again before it tries the next time.
PAUSES = 12
#: What OpenSSH's own client asks (ServerAliveInterval). A server that does not know it says so, which will do.
QUESTION = "keepalive@openssh.com"

#: Seconds for which a command waits until sshd takes it, and the same where no other one of ours is under way, for
#: whose end it could wait. It asks again after so many.
TURN, TURN_ALONE = 300, 10
ASK_AGAIN = 0.1

_connect, _open_session, _note_host_key = CONNECT.now(), OPEN_SESSION.now(), NOTE_HOST_KEY.now()


def keep_alive() -> None:
    """Have every connection of this run looked after, from its beginning to its end."""
    CONNECT.put(connect)
    # What asks something of a host, or sends something to it. tasks/engine/commands.py has put its own function there.
    for place in (RUN_COMMAND, PUT_FILE, GET_FILE):
        place.put(_told(place.now()))
    NOTE_HOST_KEY.put(remember_key)
    OPEN_SESSION.put(open_session)
    # paramiko would print each refusal; the last one is told by its error.
    logging.getLogger("paramiko.transport").addFilter(lambda record: "open FAILED" not in record.getMessage())


def open_session(transport: Transport, *arguments: Any, **named: Any) -> Channel:
    """Open a session for one command, when the server takes it.

    sshd has only so many at a time in one connection (MaxSessions, 10 unless somebody lowered it), and one that has
    just ended counts for a moment longer. The coordinator's connection is used for all hosts that join at once.
    Raises SSHException when the server takes none.
    """
    begun = alone = time.monotonic()
    while True:
        try:
            channel: Channel = _open_session(transport, *arguments, **named)
            return channel
        except SSHException as error:
            # Of two refusals at once paramiko has kept only one's reason.
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


def connect(connector: SSHConnector) -> None:
    """Connect, and look after the connection from then on."""
    try:
        _connect(connector)
    except PyinfraError as error:
        step = f"see that `{by_hand(connector.host.name, connector.host.data)}` works from here, with the same key"
        # What paramiko says when it was put out in the middle of the agent's keys (paramiko/paramiko#1390), or with the
        # last of them. The key files come after those, and were not tried. PAM ends the connection in the same way.
        # Where the end comes before paramiko has noted it, pyinfra says "EOF error".
        put_out = ("No existing session", "transport shut down or saw EOF", "EOF error")
        if any(words in str(error) for words in put_out):
            step = (
                "the SSH agent has more keys than sshd lets one try (MaxAuthTries), and none of them is taken: name "
                "the right one in the host's data, 'ssh_key': '~/.ssh/id_ed25519'; or the key is right and the account "
                f"may not log in just now, as with /etc/nologin on the host, or when it has expired. Then {step}"
            )
        # Python's numbers of errors tell people nothing, least of all None.
        said = re.sub(r"\[Errno (-?\d+|None)\] ", "", str(error))
        raise type(error)(f"{said}. Next: {step}") from error
    transport = transport_of(connector)
    if transport is None:
        return
    below = socket_of(transport)
    if below is not None and below.family in (socket.AF_INET, socket.AF_INET6):
        # paramiko leaves Nagle's algorithm on, which costs 40 ms for each remote command.
        below.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    gevent.spawn(watch, transport, PAUSE, PAUSES)


def by_hand(name: str, data: Any) -> str:
    """The command by which a person connects to a host of the inventory, for messages. `data`: what has its words."""
    user, port = data.get("ssh_user"), data.get("ssh_port")
    place = str(data.get("ssh_hostname") or name)
    words = ["ssh", *(["-p", str(port)] if port else []), f"{user}@{place}" if user else place]
    return line(shlex.join(words))


def through_another(connector: Any) -> bool:
    """Whether a host is reached through another one (ProxyJump, ProxyCommand): it sees that one's address."""
    transport = transport_of(connector)
    return transport is not None and not isinstance(transport.sock, socket.socket)


def socket_of(transport: Transport) -> socket.socket | None:
    """This computer's end of a connection: through jump hosts that of the first one's. None for a ProxyCommand's."""
    below: object = transport.sock
    while isinstance(below, Channel):
        below = below.get_transport().sock
    return below if isinstance(below, socket.socket) else None


def watch(transport: Transport, pause: float, pauses: int) -> None:
    """Ask the server for a sign of life every `pause` seconds, and end a connection that gives none `pauses` times.

    Without that a host that lost its power is waited for without end: nothing tells this computer's TCP, and behind a
    jump host TCP cannot know.
    """
    gevent.sleep(pause)
    while transport.is_active():
        answered = gevent.spawn(transport.global_request, QUESTION)
        # Counted in pauses: while this whole process stands still (a password is typed), no answer can be read either.
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
    """Keep a server's new key in the file, as pyinfra does, and in what later connections of this run compare with.

    Otherwise the next connection of this run would not know it, and write the same line once more.
    """
    _note_host_key(client, hostname, key)
    know_host_key(client, hostname, key)


def _told(way: Any) -> Any:
    """`way`, with a connection that is lost in the middle of it told as such, and as an error of one kind."""

    def told(connector: SSHConnector, *arguments: Any, **named: Any) -> Any:
        try:
            done = way(connector, *arguments, **named)
        except (EOFError, OSError, SSHException) as error:
            if isinstance(error, EOFError) or is_lost(connector):
                _lost(connector, error)
            raise
        # paramiko gives a command whose connection broke the status -1, and no word about it.
        if done is False or (isinstance(done, tuple) and not done[0]):
            # What has read the end of the connection goes on and marks it as ended.
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
    """What is being done on a host, for people: its operation, or the part of the run."""
    operation = operation_of(host)
    if operation and state.is_executing:
        return f"'{', '.join(names_of(state, operation))}'"
    return "the run" if state.is_executing else "planning"


def left_behind(state: Any) -> str:
    """What a run that ends here leaves, in words."""
    if is_planning(state):
        return "nothing was changed"
    return "what was done stays, what was begun on a host may go on there, and the next run finishes the rest"
