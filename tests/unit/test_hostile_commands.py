"""Quoted texts arrive unchanged. dash runs the scripts, with programs that record their arguments."""

from __future__ import annotations

import http.server
import json
import secrets
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given

from facts.engine.component_state import STAMPS, ComponentState, inputs_digest, unit_call
from facts.headscale import Headscale, HeadscaleState
from facts.tailscale import Tailscale, TailscaleState
from operations import ollama
from operations import tailscale as membership
from operations.devices import nodes
from operations.engine import component
from operations.engine.run_on_host import RemoteError, run_on
from operations.headscale import users
from operations.openclaw import browsers, image, send_message
from operations.openclaw.browser_approval import approved
from operations.openclaw.token import rotate_script
from plan.devices.vpn_nodes import RECORD, Minted, Stranger, Tidy, node_of, parse_record
from plan.engine.want import Account, Component, Directory, File, Secret, Unit
from plan.openclaw.browser_requests import Request
from plan.openclaw.browsers import Pairing
from tests.unit.fakes import Fake, bare, context
from tests.unit.hostile import arguments, as_argument, fewer, texts
from tests.verify.state import curl_config

#: The programs that these scripts may call. PATH leads to no other programs.
PROGRAMS = (
    *("headscale", "tailscale", "systemctl", "journalctl", "systemd-run", "ss", "curl", "loginctl", "getent"),
    *("useradd", "install", "chown", "chmod", "mv", "rm", "mkdir", "ln", "mktemp", "cat", "grep", "sed", "cut", "date"),
    *("sleep", "stat", "sha256sum", "readlink", "test", "tail", "od", "head", "tr", "base64", "tar", "cp", "id", "seq"),
    *("usermod", "sync", "dirname", "setpriv", "xargs"),
)
#: The mark at the end of each call in the log.
END = secrets.token_hex(8)
#: The programs whose calls do not matter.
QUIET = ["cat", "grep", "cut", "date", "sleep", "tail", "head", "tr", "od", "id", "seq", "xargs"]


class Shell:
    """Runs scripts. Each program records its name and its arguments, with the character 0 after each, and END."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self.programs = folder / "programs"
        self.programs.mkdir()
        (folder / "work").mkdir()
        # Each call is written at once, because the programs of a pipe write at the same time.
        written = f'printf "%s\\0" "${{0##*/}}" "$@" {END} >> "$LOG"\n'
        says = {
            "mktemp": f"echo {folder}/work/made\n",
            "date": "echo 0\n",
            "getent": "exit 2\n",
            "cat": "exec /bin/cat\n",
            "xargs": 'exec /usr/bin/xargs "$@"\n',
        }
        for name in PROGRAMS:
            program = self.programs / name
            program.write_text(f"#!/bin/dash\n{'' if name in QUIET else written}{says.get(name, '')}")
            program.chmod(0o755)

    def __call__(self, script: str, stdin: str = "") -> list[list[str]]:
        """Run a script. Returns its calls in their order. If it calls another program, the test fails."""
        self.log.write_bytes(b"")
        done = subprocess.run(
            ["/bin/dash", "-c", script],
            input=stdin,
            text=True,
            errors="surrogateescape",
            capture_output=True,
            cwd=self.folder / "work",
            env={"PATH": str(self.programs), "LOG": str(self.log)},
            check=False,
        )
        assert "not found" not in done.stderr and "Syntax error" not in done.stderr, done.stderr
        text = self.log.read_bytes().decode(errors="surrogateescape")
        return [call.split("\0")[:-1] for call in text.split(f"{END}\0")[:-1]]


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    with tempfile.TemporaryDirectory() as folder:
        yield Shell(Path(folder))


def told(operation: Any, here: Fake | None = None, **given: Any) -> Fake:
    """A fake host after an operation has run on it. It also stands for all other hosts."""
    here = here or Fake("home", bare("100.64.0.1"))
    with context(here, _Same(here)):
        here.do(operation, **given)
    return here


class _Same(dict[str, Fake]):
    def __init__(self, only: Fake) -> None:
        self.only = only

    def __missing__(self, _: str) -> Fake:
        return self.only


@given(arguments)
def test_quoting_itself(text: str) -> None:
    done = subprocess.run(["/bin/dash", "-c", f"printf '%s\\0' {shlex.quote(text)}"], capture_output=True, check=True)
    assert done.stdout == text.encode() + b"\0"


def test_a_command_with_the_character_0_is_cut_by_no_shell() -> None:
    here = Fake("home")
    with pytest.raises(RemoteError, match="character 0"):
        run_on(here, "rm -f /tmp/x\0/y")  # type: ignore[arg-type]
    assert here.commands == []


@fewer(2)
@given(arguments)
def test_the_name_of_a_person(shell: Shell, name: str) -> None:
    (_, command) = told(users.users, names=[name]).commands
    assert shell(command) == [["headscale", "users", "create", name, "-o", "json"]]


@fewer(2)
@given(arguments, arguments)
def test_a_hosts_name_and_its_control_server(shell: Shell, name: str, control: str) -> None:
    calls = shell(membership.join_script(control, name, True, again=True, anew=False), "key")
    up = next(call for call in calls if call[:2] == ["tailscale", "up"])
    assert up[3:5] == [f"--login-server={control}", f"--hostname={name}"]
    assert [call[0] for call in calls] == ["tailscale", "tailscale"]


@fewer(2)
@given(arguments)
def test_a_hosts_name_when_it_is_set_anew(shell: Shell, name: str) -> None:
    joined = TailscaleState("Running", "https://x", "old", frozenset(), ("100.64.0.1",), True, (), False)
    known = node_of({"id": 1, "given_name": "x", "ip_addresses": ["100.64.0.1"], "user": {"name": "anna"}})
    here = told(
        membership.joined,
        Fake(name, {Tailscale: joined, Headscale: HeadscaleState(True, {}, (known,), (), {})}),
        control="https://x",
        coordinator="home",
        tags=(),
        user="anna",
        accept_dns=True,
    )
    assert shell(here.commands[-1]) == [["tailscale", "set", f"--hostname={name}"]]


@fewer(2)
@given(arguments, arguments)
def test_the_name_of_a_node_and_the_record_of_devices(shell: Shell, name: str, owner: str) -> None:
    record = {"anna-phone": Minted(owner, (1,), owner)}
    node = node_of({"id": 3, "given_name": name})
    tidy = Tidy((Stranger(node, name),), (4,), {5: name}, record)
    calls = shell(nodes.tidy_script(tidy).replace("/var/lib/private-ai", f"{shell.folder}/work"))
    assert calls[:3] == [
        ["headscale", "preauthkeys", "expire", "--id", "4"],
        ["headscale", "nodes", "delete", "--identifier", "3", "--force"],
        ["headscale", "nodes", "rename", "--identifier", "5", name],
    ]
    assert [call[0] for call in calls[3:]] == ["sync", "mv"]
    assert parse_record((shell.folder / "work" / f"{Path(RECORD).name}.new").read_text()) == record


@given(texts)
@example("--all")
@example("$HOME")
@example("r-1\nreboot")
@example("")
def test_the_id_of_a_browser(shell: Shell, number: str) -> None:
    """OpenClaw's account runs this command with systemd-run, which itself replaces words after a dollar sign."""
    asked = Pairing(number, "x", "100.64.0.2", True, None, device="d", gateway="home")
    here = Fake("home", bare("100.64.0.1"), {"devices list": _pairings(asked)})
    with context(here, _Same(here)):
        try:
            browsers.revoke(here, [asked])  # type: ignore[arg-type]
        except RemoteError as error:
            assert here.commands == [] and str(error).isprintable()
            done = approved._inner(Request(asked, "x"))
            assert not next(each.function(None, here, *each.args) for each in done)
            assert here.commands == []
            return
    assert set(number) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@=+/-")
    (call,) = shell(here.commands[0])
    assert call[0] == "systemd-run" and call[-3:] == ["reject", number, "--json"]


def _pairings(*waiting: Pairing) -> str:
    pending = [{"requestId": each.id, "deviceId": each.device, "remoteIp": each.address} for each in waiting]
    return json.dumps({"paired": [], "pending": pending})


@fewer(2)
@given(arguments)
@example("it's; reboot")
def test_the_name_of_a_model(shell: Shell, name: str) -> None:
    here = told(ollama.answers, model_name=name, manifest=name, context=8192, port=11434)
    calls = shell(here.commands[-1])
    (body,) = (call[call.index("-d") + 1] for call in calls if call[0] == "curl")
    assert json.loads(body)["model"] == name


@fewer(2)
@given(arguments)
def test_the_name_of_an_image_and_of_an_account(shell: Shell, name: str) -> None:
    (call,) = shell(image.image_id(name, name))
    assert call[-1] == name and {f"--reuid={name}", f"--regid={name}"} <= set(call)
    calls = shell(unit_call(f"x{name}", "is-active y"))
    assert calls == [["systemctl", "--user", f"--machine=x{name}@", "is-active", "y"]]
    calls = shell(component.make_account(Account(name, name)))
    assert calls == [["getent", "passwd", name], [*calls[1][:-1], name], ["usermod", "--groups", "", name]]
    assert calls[1][0] == "useradd"


@fewer(2)
@given(arguments.filter(lambda text: "/" not in text and len(text) < 60))
def test_a_path(shell: Shell, name: str) -> None:
    path = f"/etc/x{name}"
    want = Component(
        directories=(Directory(path),),
        files=(File(path, "x", check="stat {}"),),
        secrets=(Secret(path, "o", "g"),),
        units=(Unit(f"u{name}", inputs=(path,)),),
    )
    called = shell(ComponentState().command(want))
    assert ["stat", "-c", "path %n|%F|%U|%G|%04a|%s|%Y", "--", path, path, path] in called
    assert ["sha256sum", "--", path] in called
    # The fake mkdir makes no folder, so the script ends there.
    assert shell(component.install_files(want.directories, ()))[-1] == ["mkdir", "-m", "0700", f"./x{name}"]
    script = component.install_files((), want.files)
    assert shell(script)[-2:] == [["mv", "-fT", f"{path}.new", path], ["rm", "-f", f"{path}.new"]]
    assert ["sha256sum", "--", path] in shell(inputs_digest(want.units[0]))
    moved = component.make_secret(want.secrets[0]).replace("/etc/", f"{shell.folder}/work/")
    assert ["mv", "-fT", f"{shell.folder}/work/x{name}.new", f"{shell.folder}/work/x{name}"] in shell(moved)
    started = shell(component.start_unit(want.units[0]).replace(STAMPS, f"{shell.folder}/work"))
    assert ["systemctl", "restart", f"u{name}"] in started


class Gateway:
    """A web server that records the headers and the body of the last request."""

    def __init__(self) -> None:
        outer = self
        self.header, self.body = "", b""

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.header = self.headers["Authorization"] or ""
                outer.body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                said = json.dumps({"choices": [{"message": {"content": "x"}}], "usage": {}}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                return

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.server.shutdown()


@fewer(2)
@given(texts.filter(str.strip))
@example("x" * 300_000)
@example("-d @/etc/passwd")
def test_a_message_and_a_token_reach_the_gateway_through_curl(gateway: Gateway, message: str) -> None:
    token = "".join(letter for letter in message if " " < letter < "\x7f")[:100] or "t"
    here = Fake(
        "home",
        says={
            "cat /token": f"{token}\n",
            "curl": '{"choices": [{"message": {"content": ""}}], "usage": '
            '{"prompt_tokens": 1, "completion_tokens": 1}}',
        },
    )
    told(send_message.ask, here, message=message, gateway="home", url=gateway.url, token="/token")
    script = here.commands[-1].replace("curl ", "curl --disable --noproxy '*' ")
    subprocess.run(["/bin/dash", "-c", script], input=here.stdins[-1].encode(), check=True, capture_output=True)
    assert json.loads(gateway.body)["messages"] == [{"role": "user", "content": message}]
    assert gateway.header == f"Bearer {token}"


@fewer(4)
@given(texts.map(lambda text: "".join(letter for letter in text if " " < letter < "\x7f")[:100] or "t"))
@example('pa"ss\\word')
def test_a_token_that_somebody_chose_is_asked_with_as_it_is(gateway: Gateway, token: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "token")
        file.write_text(token)
        script = rotate_script(
            Secret(str(file), "o", "g"), Unit("x.service"), f"curl --disable --noproxy '*' -s {gateway.url}"
        )
        line = next(each for each in script.splitlines() if each.startswith("answer()"))
        done = subprocess.run(["/bin/dash", "-c", f'{line}\nanswer "$(cat {file})"'], capture_output=True, text=True)
    assert done.stdout == "200" and gateway.header == f"Bearer {token}"


@fewer(4)
@given(texts.map(as_argument))
def test_curls_configuration(gateway: Gateway, text: str) -> None:
    config = curl_config([("url", gateway.url), ("data-raw", text), ("noproxy", "*")])
    subprocess.run(
        ["curl", "--disable", "--silent", "--config", "-"], input=config.encode(), check=True, capture_output=True
    )
    assert gateway.body == text.encode()
