"""A host's environment does not change answers: neither its language, nor its proxy, nor a greeting of its shell."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.connectors import util
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.context import ctx_state

from facts.engine.component_state import looking, through_manager
from operations.engine.as_root import NotRoot
from operations.engine.component import install_packages
from plan.engine.command_environment import BEGIN, ENVIRONMENT, MARK, PODMAN, answer
from tasks.engine.commands import alike
from tests.verify.inventory import Place
from tests.verify.remote import Remote

ROOT = Path(__file__).parent.parent.parent
GREETING = 'echo Welcome to hub, it is $(date +%s%N); echo "You have mail" >&2; printf "up since "'


class Shell:
    """Replaces paramiko's client by a bash on this computer, with a greeting and with the environment of some hosts."""

    def __init__(self, folder: Path, greeting: str, **more: str) -> None:
        # bash reads this file at its start, as it reads .bashrc when sshd starts it.
        (folder / "greeting").write_text(greeting + "\n")
        self.env = {"PATH": os.environ["PATH"], "BASH_ENV": str(folder / "greeting"), **more}

    def get_transport(self) -> Any:
        return SimpleNamespace(is_active=lambda: True)

    def exec_command(self, command: str, get_pty: bool) -> tuple[Any, Any, Any]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(["bash", "-c", command], env=self.env, stdin=pipe, stdout=pipe, stderr=pipe)
        return process.stdin, Answer(process), process.stderr


class Answer:
    """Standard output in the form of paramiko: with a channel that has the exit status."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.lines, self.channel = process.stdout or (), SimpleNamespace(recv_exit_status=process.wait)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.lines)


@pytest.fixture
def connector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SSHConnector:
    """pyinfra's own connector with the project's functions, and a shell that prints a greeting."""
    monkeypatch.setattr(SSHConnector, "run_shell_command", SSHConnector.run_shell_command)
    monkeypatch.setattr(util, "read_buffer", util.read_buffer)
    alike()
    made = SSHConnector.__new__(SSHConnector)
    given: Any = made
    given.state = SimpleNamespace()
    given.host = SimpleNamespace(name="hub", print_prefix="", connector_data={}, data={"ssh_user": "root"})
    given.client = Shell(
        tmp_path,
        GREETING,
        LANG="C.UTF-8",
        LC_ALL="C.UTF-8",
        LANGUAGE="de",
        http_proxy="http://p:8",
        no_proxy="m",
    )
    return made


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo one; echo two", ["one", "two"]),
        ("cat <<end\none\nend", ["one"]),
        ("true", []),
        (f"echo '{MARK}'", [MARK]),
        ("echo; echo", ["", ""]),
        ("cat", ["given"]),
        ("printf 'no end'", ["no end"]),
    ],
)
def test_a_greeting_is_no_answer(connector: SSHConnector, script: str, says: list[str]) -> None:
    # Only `cat` gets input: another script may have ended before the input arrives.
    given = "given" if script == "cat" else None
    good, output = connector.run_shell_command(script, _stdin=given)  # type: ignore[arg-type]
    assert good and output.stdout_lines == says and output.stderr_lines == []


def test_a_failure_is_told_without_the_greeting(connector: SSHConnector) -> None:
    good, output = connector.run_shell_command("echo broken >&2; exit 3")  # type: ignore[arg-type]
    assert not good and output.stderr == "broken" and output.stdout == ""


CLOUD = """echo 'Please login as the user "debian" rather than the user "root".'; echo; exit 142"""
INSTEAD = [
    # The text that Debian's cloud images print if root logs in.
    (CLOUD, "Please login as the user", "'ssh_user': 'debian', '_sudo': True in the host's data"),
    ("echo 'open terminal failed: not a terminal' >&2; exit 1", "open terminal failed", "a line of .bashrc that ends"),
    ("echo 'This account is currently not available.'; exit 1", "is currently not available", "such as nologin"),
    # The text of OpenSSH 10.0 when an account's password has expired, as hosters set it for the first login.
    (
        "printf '%s\\n' 'WARNING: Your password has expired.' 'Password change required but no TTY available.'; exit 1",
        "WARNING: Your password has expired.",
        "chage -d $(date +%F) root",
    ),
    ("echo Welcome; exit", "Welcome", "prints"),
    ("exit", "is 'not run'", "ForceCommand"),
]


@pytest.mark.parametrize(("greeting", "found", "step"), INSTEAD)
@pytest.mark.parametrize("executing", [False, True])
def test_what_comes_instead_of_the_script_ends_the_run(
    connector: SSHConnector, tmp_path: Path, greeting: str, found: str, step: str, executing: bool
) -> None:
    (tmp_path / "greeting").write_text(f"{greeting}\n")
    with ctx_state.use(SimpleNamespace(is_executing=executing)), pytest.raises(NotRoot) as caught:
        connector.run_shell_command("echo one")  # type: ignore[arg-type]
    said = str(caught.value)
    assert said.startswith("host hub: a command over SSH is ") and found in said and step in said.split("Next: ")[1]
    assert ("nothing was changed" in said) is not executing


def test_the_language_and_the_proxy_are_ours(connector: SSHConnector) -> None:
    shown = "echo $LC_ALL $no_proxy $NO_PROXY $http_proxy; ls /nowhere"
    _, output = connector.run_shell_command(f"set -f; {shown}")  # type: ignore[arg-type]
    assert output.stdout == "C * * http://p:8"
    assert "No such file or directory" in output.stderr


def test_the_systems_own_programs_are_found_first(connector: SSHConnector) -> None:
    client: Any = connector.client
    own = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    # Such a PATH may come from sudo's secure_path, from doas, or from an account on Debian.
    client.env["PATH"] = "/home/anna/bin:/usr/bin:/bin"
    _, output = connector.run_shell_command("echo $PATH; umask")  # type: ignore[arg-type]
    assert output.stdout_lines == [f"{own}:/home/anna/bin:/usr/bin:/bin", "0022"]
    script = f"set -eu; no_proxy=; unset PATH; umask 077\n{BEGIN}\necho $PATH; umask"
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert said.stdout.splitlines()[-2:] == [own, "0022"]


def test_variables_that_change_what_programs_do_are_unset(connector: SSHConnector, tmp_path: Path) -> None:
    client: Any = connector.client
    (tmp_path / "root.pem").touch()
    client.env |= {"POSIXLY_CORRECT": "1", "TAR_OPTIONS": "--verbose", "SSL_CERT_FILE": f"{tmp_path}/root.pem"}
    client.env |= {"DF_BLOCK_SIZE": "human-readable", "CDPATH": "/"}
    script = "ls / --directory; tar --create --file /dev/null /etc/hostname; cd usr; echo $SSL_CERT_FILE"
    _, output = connector.run_shell_command(f"cd /; {script}")  # type: ignore[arg-type]
    assert output.stdout_lines == ["/", ""]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_shell_stays_one_of_posix(tmp_path: Path, shell: str) -> None:
    (tmp_path / "sh").symlink_to(f"/bin/{shell}")
    # In its own mode, bash would ignore a failure inside the brackets.
    script = f'set -e\n{BEGIN}\necho "$(false; echo over)"; env'
    done = subprocess.run([tmp_path / "sh", "-c", script], env={"POSIXLY_CORRECT": "1"}, capture_output=True, text=True)
    assert done.returncode == 0 and "POSIXLY" not in done.stdout and "over" not in done.stdout


def test_podman_does_for_openclaw_only_what_the_house_says() -> None:
    """The environment of the host, and the host's settings for other people's containers, have no effect."""
    words = shlex.split(through_manager("openclaw", "podman images"))
    unset = next(word.split("=")[2].split() for word in words if word.startswith("--property=UnsetEnvironment="))
    assert {"CONTAINER_HOST", "CONTAINERS_STORAGE_CONF", "XDG_DATA_HOME"} <= set(unset)
    assert PODMAN in looking("openclaw", "podman images").split() and f"--setenv={PODMAN}" in words
    both = '\nUnsetEnvironment={{ foreign | join(" ") }}\nEnvironment={{ podman }}\n'
    for unit in ("openclaw/openclaw.container", "openclaw/openclaw-warm.service"):
        assert both in (ROOT / f"templates/{unit}.j2").read_text(), unit


def test_no_curl_reads_the_settings_of_the_account() -> None:
    """~/.curlrc may contain a proxy, or options that print more."""
    for folder in ("facts", "operations", "tasks", "templates", "tests/verify"):
        for file in (each for each in (ROOT / folder).rglob("*") if each.suffix in (".py", ".j2")):
            for line in file.read_text(encoding="utf-8").splitlines():
                assert not re.search(r"\bcurl --(?!disable |config -`)", line), f"{file}: {line}"


def test_apt_keeps_the_proxy_of_its_host_and_the_exceptions(connector: SSHConnector, tmp_path: Path) -> None:
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$http_proxy $no_proxy" > {tmp_path}/seen\n')
    (tmp_path / "apt-get").chmod(0o755)
    # Without this PATH inside the script, the system's own apt-get would be found first.
    script = f"PATH={tmp_path}:$PATH\n{install_packages(('curl',))}"
    good, _ = connector.run_shell_command(script)  # type: ignore[arg-type]
    assert good and (tmp_path / "seen").read_text() == "http://p:8 m\n"


def test_the_verification_asks_in_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ssh").write_text(f'#!/bin/bash\n{GREETING}\nfor last; do :; done\nexec sh -c "$last"\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    remote = Remote([Place("hub", "10.0.0.1")])
    said = remote.run("hub", "echo $LC_ALL; cat; echo broken >&2; exit 3", stdin="given")
    remote.close()
    assert (said.status, said.stdout, said.stderr) == (3, "C\ngiven", "broken\n")


def test_a_mark_that_does_not_come_hides_nothing() -> None:
    assert list(answer(["one\n", "two\n"])) == ["one\n", "two\n"]
    assert list(answer([f"x{MARK}\n", f"{MARK}\r\n", "two\n"])) == ["two\n"]


def test_nothing_of_ours_goes_another_way() -> None:
    """Code that runs a command on a host by itself must begin it with BEGIN. Otherwise the host would answer in its own
    language."""
    for folder in ("facts", "operations", "tasks", "playbooks"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert "exec_command(" not in text or "BEGIN" in text, (
                f"{file} runs commands without plan/engine/command_environment.py"
            )


def test_programs_that_stay_on_hosts_use_no_proxy() -> None:
    """Scripts unset the variables themselves. For services their units do it, because systemd may set a proxy for all
    services (system.conf)."""
    for script in ("health/private-ai-health.j2", "openclaw/openclaw-warm.j2"):
        assert f"\n{ENVIRONMENT}\n" in (ROOT / "templates" / script).read_text(), script
    named = {"http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}
    talking = ("tailscale/tailscaled.service", "headscale/headscale.service", "ollama/ollama.service")
    for unit in (*talking, "openclaw/openclaw.container"):
        found = re.search("^UnsetEnvironment=(.*)$", (ROOT / f"templates/{unit}.j2").read_text(), re.MULTILINE)
        assert found and set(found[1].split()) == named, unit


def test_the_first_lines_leave_the_shell_as_it_is() -> None:
    done = subprocess.run(["sh", "-c", f"set -eu\nno_proxy=\n{BEGIN}\necho $-"], capture_output=True, text=True)
    assert done.returncode == 0 and ENVIRONMENT in BEGIN
