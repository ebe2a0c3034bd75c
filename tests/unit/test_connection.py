"""A run watches its connections, and says so if one is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from paramiko import ECDSAKey, SSHException
from pyinfra.connectors.sshuserclient import client as ssh_client

from operations.engine.run_on_host import ConnectionLost, RemoteError, run_on
from tasks.engine import connection
from tests.unit.fakes import Fake

ROOT = Path(__file__).parent.parent.parent

#: A program that has both ends of a connection, the client's and the server's, over two sockets of one process.
BOTH_ENDS = """
from gevent import monkey
monkey.patch_all()
import socket, gevent, paramiko
from types import SimpleNamespace
from operations.engine.run import this_run
from tasks.engine.connection import socket_of, through_another, watch

asked = []

class Server(paramiko.ServerInterface):
    def check_global_request(self, kind, message): asked.append(kind)
    def check_auth_none(self, name): return paramiko.AUTH_SUCCESSFUL
    def get_allowed_auths(self, name): return "none"
    def check_channel_direct_tcpip_request(self, *more): return paramiko.OPEN_SUCCEEDED

listening = socket.create_server(("127.0.0.1", 0))
near = socket.create_connection(listening.getsockname())
far = listening.accept()[0]
server, client = paramiko.Transport(far), paramiko.Transport(near)
server.add_server_key(paramiko.ECDSAKey.generate())
server.start_server(gevent.event.Event(), Server())
client.connect(username="anna")
client.auth_none("anna")
"""


def scripted(text: str) -> list[str]:
    """The output of a program that has both ends of a connection."""
    command = [sys.executable, "-c", BOTH_ENDS + text]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_server_that_answers_keeps_its_connection_and_one_that_does_not_loses_it() -> None:
    said = scripted("""
watching = gevent.spawn(watch, client, 0.02, 5)
while len(asked) < 20:
    gevent.sleep(0.01)
print(client.is_active(), watching.ready(), client in this_run().silent)
server.packetizer.send_message = lambda message: None
watching.join(20)
print(client.is_active(), watching.ready(), client in this_run().silent)
""")
    assert said == ["True False False", "False True True"]


def test_commands_wait_for_their_turn_where_a_server_takes_one_at_a_time() -> None:
    said = scripted("""
from tasks.engine import connection
connection.keep_alive()
taken, refused = [], []
def may_open(self, kind, number):
    (refused if taken else taken).append(number)
    return paramiko.OPEN_SUCCEEDED if number in taken else paramiko.OPEN_FAILED_CONNECT_FAILED
Server.check_channel_request = may_open
def command():
    client.open_session().recv_exit_status()
    return "done"
commands = [gevent.spawn(command) for _ in range(4)]
for others in (3, 2, 1, 0):
    channel = server.accept(20)
    refused.clear()
    while len(refused) < 2 * others:
        gevent.sleep(0.01)
    channel.close()
    taken.clear()
print(*(each.get(timeout=20) for each in commands))
connection.TURN_ALONE = 0.3
Server.check_channel_request = lambda *_: paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
try:
    client.open_session()
except paramiko.SSHException as error:
    print(error)
""")
    assert said[0] == "done done done done"
    assert said[1].startswith("sshd takes no command. Next: in the host's /etc/ssh/sshd_config raise MaxSessions")


def test_this_computer_s_socket_is_found_through_jump_hosts_and_not_through_a_command() -> None:
    said = scripted("""
channel = client.open_channel("direct-tcpip", ("192.0.2.1", 22), ("127.0.0.1", 1))
behind = paramiko.Transport(channel)
command = paramiko.Transport(paramiko.ProxyCommand("cat"))
print(socket_of(client) is near, socket_of(behind) is near, socket_of(command))
reached = lambda transport: SimpleNamespace(client=SimpleNamespace(get_transport=lambda: transport))
print(*(through_another(reached(each)) for each in (client, behind, command, None)))
command.sock.close()
""")
    assert said == ["True True None", "False True True False"]


def test_a_new_key_is_written_once_and_known_from_then_on(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.touch()
    key: Any = ECDSAKey.generate()
    for _ in range(2):
        client = SimpleNamespace(_host_keys_filename=str(file), _host_keys=ssh_client.get_host_keys((str(file),)))
        if client._host_keys.lookup("host") is None:
            connection.remember_key(client, "host", key)
    assert file.read_text().count("host ecdsa") == 1
    assert ssh_client.get_host_keys((str(file),)).check("host", key)


@pytest.mark.parametrize("error", [EOFError(), OSError("reset"), SSHException("no"), ConnectionLost("it was lost")])
def test_a_connection_that_breaks_while_another_host_is_asked_is_a_remote_error(error: Exception) -> None:
    class Gone(Fake):
        def run_shell_command(self, *_: object, **__: object) -> Any:
            raise error

    host: Any = Gone("home")
    with pytest.raises(RemoteError, match="home: the connection broke"):
        run_on(host, "true")


def end_of(active: bool) -> Any:
    """A fake connection, with only the parts that show whether it is lost."""
    transport = SimpleNamespace(is_active=lambda: active, saved_exception=None)
    host = SimpleNamespace(name="home", print_prefix="", current_op_hash="", executing_op_hash=None)
    state = SimpleNamespace(is_executing=False, current_stage=3)
    return SimpleNamespace(client=SimpleNamespace(get_transport=lambda: transport), host=host, state=state)


def failing(error: Exception | None) -> Any:
    def way(_: object) -> tuple[bool, str]:
        if error:
            raise error
        return False, "said"

    return way


@pytest.mark.parametrize("error", [None, EOFError(), OSError("Socket is closed"), SSHException("not connected")])
def test_a_loss_is_told_whatever_became_of_the_command(error: Exception | None) -> None:
    with pytest.raises(ConnectionLost, match=r"home was lost; nothing was changed\. Next: run this again"):
        connection._told(failing(error))(end_of(active=False))


def test_what_fails_while_the_connection_holds_is_left_as_it_is() -> None:
    assert connection._told(failing(None))(end_of(active=True)) == (False, "said")
    with pytest.raises(OSError, match="No space"):
        connection._told(failing(OSError("No space")))(end_of(active=True))


def test_a_server_that_takes_no_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise SSHException("Unable to open channel.")

    monkeypatch.setattr(connection, "_open_session", refuse)
    monkeypatch.setattr(connection, "TURN_ALONE", -1)
    transport: Any = SimpleNamespace(is_active=lambda: True, _channels=())
    with pytest.raises(SSHException, match=r"sshd takes no command\. Next: .* raise MaxSessions, 10 is usual"):
        connection.open_session(transport)
