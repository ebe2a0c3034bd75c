"""Send a large file to a host as root, directly to the place where it is needed.

pyinfra's own upload needs SFTP, which some sshd do not offer. With sudo it also writes the file to /tmp first. On
Debian 13, /tmp is in memory, and a model does not fit there.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from paramiko import SSHException
from pyinfra import logger
from pyinfra.api import FunctionCommand, Host, State

from operations.engine.as_root import as_root, refused
from operations.engine.pyinfra_inside import command_line_on, transport_of
from operations.engine.shell import inside
from plan.engine.command_environment import BEGIN, answer
from plan.engine.terminal_text import line
from plan.engine.upload_folder import INCOMING
from plan.engine.want import BEGUN

#: The run gives up if a host has taken no data, or sent none (download.py), for so many seconds.
PATIENCE = 300
#: The run reports its progress for the first time after SAID_FIRST seconds, then every SAID_AGAIN seconds.
SAID_FIRST, SAID_AGAIN = 5, 30
#: Exit status of the receiving script when the part that it had already does not belong to this file.
DAMAGED = 65
#: Stands before the number of bytes that a host has already, because a shell may print a greeting before it.
HAS = "@@ has "


class UploadError(RuntimeError):
    """A file did not arrive. The message says why, and what to do."""


def upload(local: Path, name: str, sha256: str, folder: str = INCOMING) -> FunctionCommand:
    """A command of an operation that sends the file `local` to `folder`/`name`, a name that is safe in the shell.

    A part that an interrupted run has sent already is not sent again. Only in that case this script compares the
    digest: the command that later takes the file from there checks it in every case.
    """
    return FunctionCommand(uploaded, (local, name, sha256, folder), {})


def uploaded(state: State, host: Host, local: Path, name: str, sha256: str, folder: str = INCOMING) -> bool:
    """Send a file. Returns whether it has arrived. If it has not, the log says why."""
    try:
        if not send(host, local, name, sha256, folder):
            host.log("the part that an earlier run has sent is damaged; the file is sent from the beginning")
            send(host, local, name, sha256, folder)
    except UploadError as error:
        logger.error(f"{host.print_prefix}{error}")
        return False
    return True


def receive(name: str, size: int, sha256: str, folder: str = INCOMING) -> str:
    """A script that prints how many bytes of a file the host has, appends standard input to them, and gives the
    complete file its name."""
    begun, place = f"{name}{BEGUN}", name
    return "\n".join(
        [
            "set -e; umask 077",
            inside(folder),
            # Parts of other files are deleted: the first file of the next run is the one that was interrupted, so no
            # run would go on with them.
            f"find . -name '*{BEGUN}' ! -name {begun} -delete",
            # The file is complete if a run was interrupted after the upload, before it took the file from here.
            f"if [ -f {place} ]; then mv -fT {place} {begun}; fi",
            f"has=$(stat -c %s {begun} 2>/dev/null) || has=0",
            f'if [ "$has" -gt {size} ]; then rm {begun}; has=0; fi',
            f"printf '\\n{HAS}%s\\n' \"$has\"",
            f"cat >>{begun}",
            f'if [ "$(stat -c %s {begun})" != {size} ]; then echo "it was cut off" >&2; exit 1; fi',
            f'if [ "$has" != 0 ] && ! echo "{sha256}  {begun}" | sha256sum --check --status; then '
            f"rm {begun}; exit {DAMAGED}; fi",
            f"mv -fT {begun} {place}",
        ]
    )


def send(host: Host, local: Path, name: str, sha256: str, folder: str = INCOMING) -> bool:
    """Send one file. Returns False when the part that the host had was damaged; that part has been removed.

    Raises UploadError.
    """
    try:
        size = local.stat().st_size
        file = local.open("rb", buffering=1 << 20)
    except OSError as error:
        raise UploadError(f"{local} cannot be read: {error.strerror}. Next: run this again") from error
    command = command_line_on(host, f"{BEGIN}\n{receive(name, size, sha256, folder)}", as_root(host))
    transport: Any = transport_of(host.connector)
    done = 0
    channel: Any = None
    with file:
        try:
            channel = transport.open_session(timeout=PATIENCE)
            channel.settimeout(PATIENCE)
            channel.exec_command(command)
            done = _has(channel)
            file.seek(done)
            progress = Progress(host, "sent", done, size)
            # One packet at a time: of a longer text, paramiko copies the whole rest for each packet.
            while piece := file.read(channel.out_max_packet_size - 64):
                channel.sendall(piece)
                done += len(piece)
                progress.at(done)
            channel.shutdown_write()
            channel.settimeout(None)
        except (OSError, EOFError, SSHException) as error:
            # This can be a broken connection, or a script that ended on the host, for example because the disk is full.
            if channel is None or not channel.exit_status_ready() or channel.exit_status < 0:
                raise UploadError(_broke(error, done, size)) from error
        status: int = channel.recv_exit_status()
        heard = b"".join(channel.makefile_stderr("rb")).decode(errors="replace")
        said = "\n".join(answer(heard.splitlines()))
        channel.close()
    if status == DAMAGED:
        return False
    if status < 0:
        raise UploadError(_broke(EOFError("it ended"), done, size))
    if status:
        wrong = refused(host, as_root(host), status, said)
        raise UploadError(str(wrong) if wrong else f"the host did not accept the file: {line(said.strip())}")
    return True


def _has(channel: Any) -> int:
    """The number of bytes that the host has already. Raises EOFError when the script ends before it has printed it."""
    for text in channel.makefile("r"):
        found = re.fullmatch(rf"{HAS}(\d+)\s*", text)
        if found:
            return int(found[1])
    channel.recv_exit_status()
    raise EOFError("it ended")


class Progress:
    """Reports from time to time how far a file is, as "sent" or "fetched" (`verb`). It begins at byte `first` of `size`
    bytes."""

    def __init__(self, host: Host, verb: str, first: int, size: int) -> None:
        self.host, self.verb, self.first, self.size = host, verb, first, size
        self.begun = time.monotonic()
        self.due = self.begun + SAID_FIRST

    def at(self, done: int) -> None:
        """Note that the host has `done` bytes now."""
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + SAID_AGAIN
        speed = (done - self.first) / (now - self.begun)
        self.host.log(
            f"{done / 1e6:,.0f} of {self.size / 1e6:,.0f} MB {self.verb}, {speed / 1e6:.1f} MB/s, "
            f"{(self.size - done) / speed:.0f} s left"
        )


def _broke(error: Exception, done: int, size: int) -> str:
    why = f"it took nothing for {PATIENCE} s" if isinstance(error, TimeoutError) else line(str(error) or "it ended")
    return (
        f"the connection broke after {done / 1e6:,.0f} of {size / 1e6:,.0f} MB ({why}). Next: see that the host is up "
        "and run this again; it goes on from there"
    )
