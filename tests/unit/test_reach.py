"""Hosts that cannot be reached: the message has pyinfra's own words, the host, and the command to try by hand."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import paramiko
import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import StateStage

from tasks.engine.connection import by_hand, connect, next_step
from tasks.engine.unforeseen_errors import failed
from tests.unit.test_artifacts_fetch import closed_port

ROOT = Path(__file__).parent.parent.parent


def connector(**data: Any) -> Any:
    """pyinfra's connector for the host `home`, which has not connected yet."""
    make: Any = Inventory
    own = {"ssh_hostname": "127.0.0.1", "ssh_user": "admin", "ssh_look_for_keys": False, "ssh_allow_agent": False}
    inventory = make(([("home", {**own, **data})], {}))
    state = State()
    state.init(inventory, cast(Any, Config)())
    return inventory.get_host("home").connector


@pytest.fixture
def refusing() -> Iterator[int]:
    """The port of an sshd that accepts no login."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            while True:
                transport = paramiko.Transport(listening.accept()[0])
                transport.add_server_key(paramiko.ECDSAKey.generate())
                transport.start_server(event=threading.Event(), server=paramiko.ServerInterface())
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    yield int(listening.getsockname()[1])
    listening.close()


def refusal(of: Any) -> str:
    with pytest.raises(PyinfraError) as error:
        connect(of)
    return str(error.value)


def test_a_host_at_which_nobody_listens() -> None:
    port = closed_port()
    said = refusal(connector(ssh_port=port))
    assert said.startswith("Could not connect (")
    assert f"Next: see that `ssh -p {port} admin@127.0.0.1` works from here" in said


def test_a_name_that_nobody_knows() -> None:
    said = refusal(connector(ssh_hostname="no.such.host.invalid"))
    assert said.startswith("Could not resolve hostname (") and "`ssh admin@no.such.host.invalid`" in said


def test_a_key_that_is_not_there() -> None:
    said = refusal(connector(ssh_key="/no/such/key"))
    assert said.startswith("No such private key file: /no/such/key. Next: ")


def test_a_host_that_lets_nobody_in(refusing: int, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    key = tmp_path / "key"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(key))
    said = refusal(connector(ssh_port=refusing, ssh_key=str(key), ssh_known_hosts_file=str(known)))
    assert said.startswith("Authentication error (username=admin, key=") and "Next: see that `ssh -p" in said


@pytest.fixture(params=[11, 12])
def many_keys(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An SSH agent with one or two keys more than paramiko's server allows in one login, which is 10. sshd's default
    (MaxAuthTries) is 6."""
    socket_path = tmp_path / "agent"
    # On Linux, the path of a socket has 107 bytes at most.
    assert len(str(socket_path)) < 108
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket_path], stdout=subprocess.PIPE) as agent:
        try:
            assert agent.stdout and agent.stdout.readline()
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
            for number in range(request.param):
                key = tmp_path / f"key{number}"
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
                subprocess.run(["ssh-add", "-q", key], check=True)
            yield
        finally:
            agent.terminate()


def test_more_keys_in_the_agent_than_sshd_lets_one_try(many_keys: None, refusing: int, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    said = refusal(connector(ssh_port=refusing, ssh_allow_agent=True, ssh_known_hosts_file=str(known)))
    assert "Next: perhaps the SSH agent has more keys than sshd allows in one login (MaxAuthTries)" in said
    # sshd does not say which of the two causes it is.
    assert ". Or the key is right, but the account may not log in now: there is a file /etc/nologin" in said
    assert "'ssh_key': '~/.ssh/id_ed25519'. Or" in said and "Then see that `ssh -p" in said


def test_a_jump_host_that_connects_nobody_to_others() -> None:
    # pyinfra's words for an sshd with `AllowTcpForwarding no`.
    said = next_step("SSH error (ChannelException(1, 'Administratively prohibited'))", "ssh admin@10.0.0.1")
    assert said.startswith("the jump host connects nobody to other hosts: write AllowTcpForwarding yes into its")
    assert said.endswith("and see that `ssh admin@10.0.0.1` works from here, with the same key")


def test_an_sshd_that_asks_for_more_than_a_key() -> None:
    # The words for an sshd with `AuthenticationMethods publickey,keyboard-interactive`.
    said = next_step(
        "Authentication error (username=root) (Authentication failed: transport shut down or saw EOF)", "x"
    )
    assert "Or sshd asks for a password or a code after the key (AuthenticationMethods)" in said


def test_a_host_with_another_key_than_is_known(refusing: int, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    other = paramiko.ECDSAKey.generate()
    known.write_text(f"[127.0.0.1]:{refusing} {other.get_name()} {other.get_base64()}\n")
    said = refusal(connector(ssh_port=refusing, ssh_known_hosts_file=str(known), ssh_password="x"))
    assert said.startswith("SSH host key error (Host key for ") and "Next: see that `ssh -p" in said


def test_something_that_is_no_sshd() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            with listening.accept()[0] as session:
                session.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)

        threading.Thread(target=hang_up, daemon=True).start()
        said = refusal(connector(ssh_port=listening.getsockname()[1]))
    assert said.startswith("SSH error (") and "Next: see that `ssh -p" in said


def test_an_sshd_that_hangs_up_before_it_says_anything() -> None:
    """OpenSSH does so for some minutes with a computer from which logins have failed (PerSourcePenalties)."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=lambda: listening.accept()[0].close(), daemon=True).start()
        said = refusal(connector(ssh_port=listening.getsockname()[1]))
    assert said.endswith("sshd may refuse this computer for some minutes, so wait")


def test_a_file_that_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key")
    assert refusal(connector(ssh_key=str(tmp_path / "key"))).startswith("Invalid private key file: ")


def test_what_is_typed_by_hand_is_one_command() -> None:
    assert by_hand("home", {}) == "ssh home"
    assert by_hand("home", {"ssh_user": "a b"}) == "ssh 'a b@home'"


HOME = "('home', {'ssh_hostname': '127.0.0.1', 'lan_addresses': ['192.168.1.10'], 'ssh_port': PORT})"
SERVERS = f"coordinator = gateway = model_hosts = [{HOME}]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            SERVERS,
            (
                "[home] Could not connect (Unable to connect to port PORT on 127.0.0.1). Next: ",
                "--> the run ends for all hosts, because home failed, see above; nothing was changed",
            ),
        ),
        (SERVERS.replace("PORT", "'22'"), ("--> host home or group_data: ssh_port is '22'; accepted: a number",)),
        (
            f"{SERVERS}clients = ('laptop', {{'ssh_hostname': '127.0.0.2'}})",
            (
                "--> inventory: clients is ('laptop', {'ssh_hostname': '127.0.0.2'}); accepted: a list of hosts",
                "(nothing was changed)",
            ),
        ),
        (
            "coordinator = gateway = model_hosts = [('home', 'ssh_user=admin')]",
            ('write gateway = [("home", {"ssh_user"',),
        ),
        (
            f"{SERVERS}client = ['laptop']\nclients = [('desk', {{'port': 22}})]",
            ("--> nothing was changed: inventory: group is 'client'", "write 'ssh_port' instead"),
        ),
        (
            f"{SERVERS}clients = [('desk', {{'port': 22, 'ssh_user': 7, 'lan_addresses': ['x']}})]",
            ("nothing was changed: host desk or", "write 'ssh_port' instead", "ssh_user is 7", "lan_addresses is 'x'"),
        ),
    ],
)
def test_a_run_that_does_not_reach_a_host_ends(tmp_path: Path, text: str, said: tuple[str, ...]) -> None:
    inventory, port = tmp_path / "inventory.py", str(closed_port())
    inventory.write_text(text.replace("PORT", port))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("pyinfra")), "-y", str(inventory), "deploy.py"],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    shown = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1 and "Traceback" not in shown and "Errno None" not in shown
    for words in said:
        assert words.replace("PORT", port) in shown, shown


def test_hosts_that_failed_end_the_run_by_their_names() -> None:
    hosts = [SimpleNamespace(name=name) for name in ("laptop", "brain")]
    planning = SimpleNamespace(failed_hosts=hosts, current_stage=StateStage.Prepare)
    said = "the run ends for all hosts, because brain, laptop failed, see above; nothing was changed"
    assert str(failed(planning)) == said
    later = str(failed(SimpleNamespace(failed_hosts=hosts[:1], current_stage=StateStage.Execute)))
    assert "because laptop failed, see above; what was done stays" in later and later.endswith("Next: run this again")
