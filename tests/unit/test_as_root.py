"""How commands run as root: what the inventory may contain, and the message if a host does not allow it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.arguments import auth_argument_meta
from pyinfra.api.exceptions import PyinfraError
from pyinfra.connectors import ssh
from pyinfra.connectors.ssh import connector_data_meta
from pyinfra.connectors.util import CommandOutput, OutputLine, make_unix_command
from pyinfra.context import ctx_state

from operations.engine.as_root import NotRoot, ask_no_password
from plan.engine.as_root import WAYS, refusal
from plan.engine.errors import SettingError
from plan.house.access_table import ROLES
from plan.house.host_data import SSH_TYPES
from plan.house.inventory import build_house
from tasks.engine.begin import _refuse_ways_to_root
from tests.unit import houses

SERVERS = ("coordinator", "gateway", "model_hosts")


def test_words_are_pyinfra_s() -> None:
    assert set(WAYS) <= auth_argument_meta.keys()
    assert SSH_TYPES.keys() == connector_data_meta.keys()


@pytest.mark.parametrize(("word", "begins"), [("_sudo", "sudo -H -n sh -c "), ("_doas", "doas -n sh -c ")])
def test_pyinfra_asks_no_password_either(word: str, begins: str) -> None:
    arguments: Any = {word: True}
    assert make_unix_command("true", **arguments).get_raw_value().startswith(begins)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "value", "said"),
    [
        ("_sudp", True, "did you mean '_sudo'?"),
        ("_sudo_user", "root", "did you mean '_sudo'?"),
        ("_doas_user", "root", "did you mean '_doas'?"),
        ("_su_user", "root", "Next: remove it"),
        ("_shell_executable", "bash", "Next: remove it"),
        ("_run_once", True, "Next: remove it"),
        ("_sudo_password", "geheim", "NOPASSWD"),
        ("_su_password", "geheim", "NOPASSWD"),
        ("_sudo", "yes", "accepted: True or False"),
        ("_doas", 1, "accepted: True or False"),
    ],
)
def test_another_word_is_refused(word: str, value: Any, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        build_house([houses.entry("hub", *SERVERS, **{word: value})], ROLES)
    assert word in str(caught.value) and said in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_one_way_at_a_time() -> None:
    build_house([houses.entry("hub", *SERVERS, _sudo=True, _doas=False, ssh_user="admin")], ROLES)
    with pytest.raises(SettingError, match="_sudo and _doas"):
        build_house([houses.entry("hub", *SERVERS, _sudo=True, _doas=True)], ROLES)


def test_a_misspelt_word_of_ssh_is_refused() -> None:
    with pytest.raises(SettingError, match="did you mean 'ssh_hostname'"):
        build_house([houses.entry("hub", *SERVERS, ssh_hostnam="192.0.2.1")], ROLES)


#: Option, exit status, standard error, and words of the next step. Most texts are those of sudo 1.9.16, opendoas 6.8.2
#: and bash on Debian 13. The German one, that of sudo-rs and that of a missing sudo are written from their source code.
REFUSED = [
    ("_sudo", 1, "sudo: a password is required", "echo 'admin ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/admin"),
    ("_sudo", 1, "Guten Tag\nsudo: Ein Passwort ist notwendig\n", "NOPASSWD"),
    ("_sudo", 1, "sudo-rs: interactive authentication is required", "NOPASSWD"),
    ("_sudo", 1, "sudo: sorry, you must have a tty to run sudo", "echo 'Defaults:admin !requiretty'"),
    # A translation may write it in capitals.
    ("_sudo", 1, "sudo: kein TTY", "echo 'Defaults:admin !requiretty'"),
    # A user who may run some commands only, with `!authenticate`.
    (
        "_sudo",
        1,
        "\nSorry, user admin is not allowed to execute '/usr/bin/sh -c echo one\necho two' as root on home.",
        "echo 'admin ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/admin",
    ),
    ("_sudo", 127, "bash: line 1: sudo: command not found", "apt-get install sudo; or log in as root"),
    ("_sudo", 127, "sh: 1: sudo: not found", "apt-get install sudo"),
    ("_doas", 127, "bash: line 1: doas: command not found", "apt-get install opendoas"),
    ("_doas", 1, "doas: Authentication required", "echo 'permit nopass admin' >> /etc/doas.conf"),
    ("_doas", 1, "doas: Operation not permitted", "permit nopass admin"),
    ("_doas", 1, "doas: doas is not enabled, /etc/doas.conf: No such file or directory", "permit nopass admin"),
]


@pytest.mark.parametrize(("word", "status", "said", "step"), REFUSED)
def test_a_host_that_refuses_is_understood(word: str, status: int, said: str, step: str) -> None:
    wrong = refusal("home", {word: True, "ssh_user": "admin"}, status, said)
    assert wrong is not None and step in wrong.next_step and str(wrong.found).removesuffix(" ...") in said


@pytest.mark.parametrize(
    ("word", "status", "said"),
    [
        ("_sudo", 0, "sudo: setrlimit(RLIMIT_CORE): Operation not permitted"),
        ("_sudo", 1, "nft: syntax error"),
        ("_doas", 1, "sudo: a password is required"),
        ("", 127, "sh: 1: sudo: not found"),
    ],
)
def test_other_failures_are_none_of_it(word: str, status: int, said: str) -> None:
    assert refusal("home", {word: True} if word else {}, status, said) is None


@pytest.mark.parametrize("executing", [False, True])
def test_nobody_is_asked_for_a_password(executing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "execute_command_with_sudo_retry", ssh.execute_command_with_sudo_retry)
    ask_no_password()
    host = SimpleNamespace(name="home", data={"ssh_user": "admin"})
    call: Any = ssh.execute_command_with_sudo_retry
    said = CommandOutput([OutputLine("stderr", "sudo: a password is required")])
    with ctx_state.use(SimpleNamespace(is_executing=executing)):
        with pytest.raises(NotRoot, match="NOPASSWD") as caught:
            call(host, {"_sudo": True}, lambda: (1, said))
        assert ("nothing was changed" in str(caught.value)) is not executing
        assert call(host, {"_sudo": True}, lambda: (0, said)) == (0, said)


def options() -> set[str]:
    """The options of pyinfra's command. Its module is not imported here, because that would change Python's sockets for
    all tests."""
    spec = importlib.util.find_spec("pyinfra_cli")
    assert spec and spec.origin
    source = (Path(spec.origin).parent / "cli.py").read_text()
    return {name.replace("-", "_") for name in re.findall(r'"--([a-z][a-z-]+)"', source)}


ROOT_S = {
    "sudo",
    "sudo_user",
    "same_sudo_password",
    "use_sudo_password",
    "use_sudo_login",
    "su_user",
    "dzdo",
    "dzdo_user",
}


@pytest.mark.parametrize("name", sorted(ROOT_S))
def test_the_command_line_does_not_say_it(name: str) -> None:
    with pytest.raises(PyinfraError, match=rf"--{name.replace('_', '-')} is .*'_sudo': True"):
        _refuse_ways_to_root({name: True, "yes": True})


def test_other_options_are_let_through() -> None:
    assert options() >= ROOT_S
    _refuse_ways_to_root(dict.fromkeys(options() - ROOT_S, True))
