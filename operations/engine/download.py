"""Fetch a file from a host as root, byte for byte. pyinfra's own way needs SFTP, and reads a file of the user alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from paramiko import SSHException
from pyinfra.api import Host

from operations.engine.as_root import as_root
from operations.engine.pyinfra_inside import command_line_on, transport_of
from operations.engine.run_on_host import RemoteError
from operations.engine.upload import PATIENCE, Progress
from plan.engine.command_environment import BEGIN, MARK, answer
from plan.engine.terminal_text import line

#: Bytes that are taken at once, and that a greeting may have before MARK.
PIECE, GREETING = 1 << 16, 1 << 20


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file for its owner alone. At the end it is on the disk. Raises OSError, also when it is there already."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())


def download(host: Host, path: str, size: int, sha256: str, to: Path) -> None:
    """Write the host's file `path` to `to`, a new file for its owner alone. Raises RemoteError unless it has arrived as
    it was; OSError when it cannot be written."""
    digest, done = hashlib.sha256(), 0
    progress = Progress(host, "fetched", 0, size)
    with new_file(to) as out:
        for piece in _pieces(host, f"cat {shlex.quote(path)}"):
            out.write(piece)
            digest.update(piece)
            done += len(piece)
            progress.at(done)
    if (done, digest.hexdigest()) != (size, sha256):
        raise RemoteError(f"{host.name}: of {path} {done} bytes arrived, {size} were sent, or they are others")


def _pieces(host: Host, script: str) -> Iterator[bytes]:
    """What a script writes to standard output. Raises RemoteError when it fails."""
    try:
        transport: Any = transport_of(host.connector)
        channel = transport.open_session(timeout=PATIENCE)
        channel.settimeout(PATIENCE)
        channel.exec_command(command_line_on(host, f"{BEGIN}\n{script}", as_root(host)))
        yield from _behind_mark(iter(lambda: channel.recv(PIECE), b""))
        status = channel.recv_exit_status()
        said = b"".join(channel.makefile_stderr("rb")).decode(errors="replace")
        channel.close()
    except (EOFError, OSError, SSHException) as error:
        raise RemoteError(f"{host.name}: the connection broke: {line(error)}") from error
    if status:
        raise RemoteError(f"{host.name}: {line(' '.join(answer(said.splitlines())))}")


def _behind_mark(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The bytes behind the line MARK. A shell may have greeted before it."""
    mark, head = f"\n{MARK}\n".encode(), b""
    for piece in pieces:
        head += piece
        before, found, rest = head.partition(mark)
        if found:
            yield rest
            yield from pieces
            return
        if len(before) > GREETING:
            break
