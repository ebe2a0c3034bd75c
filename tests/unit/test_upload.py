"""Large files are sent directly to their place, over the standard input of one command. The SSH connection is real."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paramiko
import pytest

from operations.engine import upload
from operations.engine.upload import Progress, UploadError, receive, send, uploaded

ROOT = Path(__file__).parent.parent.parent
CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Sshd(paramiko.ServerInterface):
    """An sshd without the subsystem sftp. It runs commands with sh. After `cut` bytes of input it ends the connection.
    `silent`: it does not send a command's exit status."""

    def __init__(self, cut: int = 0) -> None:
        self.cut, self.silent = cut, False
        self.ended = threading.Event()

    def check_auth_none(self, username: str) -> int:
        return paramiko.AUTH_SUCCESSFUL  # type: ignore[attr-defined,no-any-return]

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED  # type: ignore[attr-defined,no-any-return]

    def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command), daemon=True).start()
        return True

    def _run(self, channel: Any, command: bytes) -> None:
        pipe = subprocess.PIPE
        with subprocess.Popen(["sh", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe) as process:
            assert process.stdin and process.stdout and process.stderr

            def feed() -> None:
                assert process.stdin
                got = 0
                # A command may end before it has read all its input.
                with contextlib.suppress(OSError):
                    while piece := channel.recv(1 << 16):
                        process.stdin.write(piece)
                        got += len(piece)
                        if self.cut and got >= self.cut:
                            channel.transport.close()
                            break
                with contextlib.suppress(OSError):
                    process.stdin.close()

            feeding = threading.Thread(target=feed, daemon=True)
            feeding.start()
            # Each line is sent at once: the client needs the first line before the command ends.
            for line in process.stdout:
                channel.sendall(line)
            said, status = process.stderr.read(), process.wait()
            self.ended.set()
            if not self.cut:
                channel.sendall_stderr(said)
                if not self.silent:
                    channel.send_exit_status(status)
                channel.close()
            # The thread reads until the channel is closed. Only this thread writes to the command's standard input.
            feeding.join()


@dataclass
class Host:
    """A fake host with the parts that an upload needs."""

    connector: Any
    name: str = "home"
    print_prefix: str = ""
    state: Any = None
    data: dict[str, Any] = field(default_factory=dict)
    connector_data: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def log(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    folder = tmp_path / "incoming"
    folder.mkdir()
    return folder


@pytest.fixture
def local(tmp_path: Path) -> Path:
    file = tmp_path / "local"
    file.write_bytes(CONTENT)
    return file


@pytest.fixture
def sshd() -> Sshd:
    return Sshd()


@pytest.fixture
def host(sshd: Sshd) -> Iterator[Any]:
    here, there = socket.socketpair()
    server, client = paramiko.Transport(there), paramiko.Transport(here)
    server.add_server_key(paramiko.ECDSAKey.generate())
    server.start_server(event=threading.Event(), server=sshd)
    client.start_client()
    client.auth_none("root")
    yield Host(SimpleNamespace(client=SimpleNamespace(get_transport=lambda: client)))
    client.close()
    server.close()


def test_pyinfra_s_own_upload_is_used_nowhere() -> None:
    code = [file for folder in ("operations", "tasks", "playbooks") for file in (ROOT / folder).rglob("*.py")]
    assert [
        str(file) for file in code if re.search(r"FileUploadCommand|[.]put_file\(|files[.]put", file.read_text())
    ] == []


def test_a_file_arrives_for_root_alone(host: Any, local: Path, incoming: Path) -> None:
    assert send(host, local, "model", SHA256, str(incoming))
    assert (incoming / "model").read_bytes() == CONTENT
    assert (incoming / "model").stat().st_mode & 0o777 == 0o600
    assert [each.name for each in incoming.iterdir()] == ["model"]


def test_what_is_there_is_not_sent_again(host: Any, local: Path, incoming: Path) -> None:
    (incoming / "model.part").write_bytes(CONTENT[:-10])
    (incoming / "another.part").write_bytes(b"never gone on with")
    with local.open("r+b") as changed:
        # The file is changed. The part on the host must not be sent again, or the digest would be wrong.
        changed.write(b"other")
    assert send(host, local, "model", SHA256, str(incoming))
    assert (incoming / "model").read_bytes() == CONTENT
    assert [each.name for each in incoming.iterdir()] == ["model"]


@pytest.mark.parametrize("begun", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)])
def test_a_damaged_beginning_is_sent_again(host: Any, local: Path, incoming: Path, begun: bytes) -> None:
    (incoming / "model.part").write_bytes(begun)
    assert uploaded(None, host, local, "model", SHA256, str(incoming))  # type: ignore[arg-type]
    assert (incoming / "model").read_bytes() == CONTENT
    assert bool(host.said) == (len(begun) <= len(CONTENT))


def test_a_greeting_of_the_shell_is_no_answer(host: Any, local: Path, incoming: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(upload, "receive", lambda *what: f"printf 'Welcome\\n12\\nhello'\n{receive(*what)}")
    assert send(host, local, "model", SHA256, str(incoming))
    assert (incoming / "model").read_bytes() == CONTENT


def test_a_host_without_room_says_so(
    host: Any, local: Path, incoming: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Writing to /dev/full fails like on a full disk.
    monkeypatch.setattr(upload, "receive", lambda *what: receive(*what).replace("cat >>", "cat >/dev/full #"))
    with caplog.at_level(logging.ERROR):
        assert not uploaded(None, host, local, "model", SHA256, str(incoming))  # type: ignore[arg-type]
    assert "the host did not accept the file: cat: write error: No space left on device" in caplog.text


def test_a_command_that_ends_at_once_is_told(host: Any, local: Path) -> None:
    incoming = "/nowhere/incoming"
    with pytest.raises(upload.UploadError, match=r"the host did not accept the file: .*/nowhere"):
        send(host, local, "model", SHA256, str(incoming))


@pytest.mark.parametrize("sshd", [Sshd(cut=1_000_000)])
def test_a_broken_connection_is_told_and_gone_on_from(host: Any, sshd: Sshd, local: Path, incoming: Path) -> None:
    with pytest.raises(upload.UploadError, match=r"the connection broke after .* MB .*; it goes on from there"):
        send(host, local, "model", SHA256, str(incoming))
    sshd.ended.wait()
    begun = (incoming / "model.part").read_bytes()
    assert len(begun) >= 1_000_000 and CONTENT.startswith(begun)


def test_a_connection_that_ends_behind_the_file_is_told(host: Any, sshd: Sshd, local: Path, incoming: Path) -> None:
    sshd.silent = True
    with pytest.raises(UploadError, match=r"the connection broke after 3 of 3 MB \(it ended\)\. Next: "):
        send(host, local, "model", SHA256, str(incoming))


def test_a_file_that_is_gone_from_the_cache_is_told(host: Any, tmp_path: Path) -> None:
    with pytest.raises(upload.UploadError, match="missing cannot be read: No such file"):
        send(host, tmp_path / "missing", "model", SHA256)


@pytest.mark.parametrize("taken", ["link", "dangling link", "file"])
def test_nothing_is_sent_to_where_an_account_leads_it(
    host: Any, local: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, taken: str
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    if taken == "link":
        elsewhere.mkdir()
    incoming = home / "incoming"
    if taken == "file":
        incoming.touch()
    else:
        incoming.symlink_to(elsewhere)
    with caplog.at_level(logging.ERROR):
        assert not uploaded(None, host, local, "model", SHA256, str(incoming))  # type: ignore[arg-type]
    assert f"{incoming} is not a folder of root. Next: " in caplog.text
    assert not elsewhere.exists() or list(elsewhere.iterdir()) == []


def test_the_folder_is_made_where_the_account_s_own_lies_for_root_alone(host: Any, local: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    assert send(host, local, "model", SHA256, str(tmp_path / "home" / "incoming"))
    assert (tmp_path / "disk" / "incoming").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "disk" / "incoming" / "model").read_bytes() == CONTENT


def test_a_whole_file_that_nobody_took_is_not_sent_again(host: Any, local: Path, incoming: Path) -> None:
    (incoming / "model").write_bytes(CONTENT)
    with local.open("r+b") as changed:
        # The file is changed. The part on the host must not be sent again, or the digest would be wrong.
        changed.write(b"other")
    assert send(host, local, "model", SHA256, str(incoming))
    assert (incoming / "model").read_bytes() == CONTENT


def test_a_long_upload_says_how_far_it_is(
    host: Any, local: Path, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "SAID_FIRST", 0)
    assert send(host, local, "model", SHA256, str(incoming))
    assert len(host.said) == 1 and " of 3 MB sent, " in host.said[0] and host.said[0].endswith(" s left")


@pytest.mark.parametrize("verb", ["sent", "fetched"])
def test_a_long_transfer_says_how_fast_it_is_and_how_long_it_takes(verb: str) -> None:
    said: list[str] = []
    progress = Progress(SimpleNamespace(log=said.append), verb, 0, 4_000_000)  # type: ignore[arg-type]
    progress.at(1_000_000)
    assert said == [], "it has only begun"
    progress.begun -= 2 * upload.SAID_FIRST
    progress.due -= 2 * upload.SAID_FIRST
    progress.at(1_000_000)
    progress.at(2_000_000)
    assert said == [f"1 of 4 MB {verb}, 0.1 MB/s, 30 s left"]
