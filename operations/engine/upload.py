"""Send a large file to a host, straight to where it is needed, as root.

pyinfra's own way needs SFTP, which an sshd may not have, and with sudo it writes to /tmp first. On Debian 13 that is
memory, and a model is larger.
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

#: Seconds after which a host that takes nothing is given up.
PATIENCE = 300
#: Seconds after which the run says how far it is, at first and then again.
SAID_FIRST, SAID_AGAIN = 5, 30
#: Status of the receiving script when the beginning that it had was not this file's.
DAMAGED = 65
#: Before the number of bytes that a host has already. A shell may have greeted before.
HAS = "@@ has "


class UploadError(RuntimeError):
    """A file did not arrive; the message says why and what to do."""


def upload(local: Path, name: str, sha256: str, folder: str = INCOMING) -> FunctionCommand:
    """A command of an operation that sends the file `local` to `folder`/`name`, a name that is safe in the shell.

    What is there of it after an interrupted run is not sent again. The digest is looked at only then: whoever takes the
    file from there checks it.
    """
    return FunctionCommand(uploaded, (local, name, sha256, folder), {})


def uploaded(state: State, host: Host, local: Path, name: str, sha256: str, folder: str = INCOMING) -> bool:
    """Whether the file has arrived; the log says why it has not."""
    try:
        if not send(host, local, name, sha256, folder):
            host.log("what an earlier run has sent of it is damaged; it is sent from the beginning")
            send(host, local, name, sha256, folder)
    except UploadError as error:
        logger.error(f"{host.print_prefix}{error}")
        return False
    return True


def receive(name: str, size: int, sha256: str, folder: str = INCOMING) -> str:
    """A script that says how much of a file it has, appends standard input to that, and gives the whole its name."""
    begun, place = f"{name}{BEGUN}", name
    return "\n".join(
        [
            "set -e; umask 077",
            inside(folder),
            # What others have begun, nobody will go on with: an interrupted run's file is the next one's first.
            f"find . -name '*{BEGUN}' ! -name {begun} -delete",
            # A run that was cut off before it took the whole file from here.
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
    """Send one file; False when the beginning that the host had was damaged, and is removed. Raises UploadError."""
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
            progress = _Progress(host, done, size)
            # One packet at a time: paramiko copies what is left of a longer text for each.
            while piece := file.read(channel.out_max_packet_size - 64):
                channel.sendall(piece)
                done += len(piece)
                progress.at(done)
            channel.shutdown_write()
            channel.settimeout(None)
        except (OSError, EOFError, SSHException) as error:
            # A host that has no room left ends its script, which looks the same from here.
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
        raise UploadError(str(wrong) if wrong else f"the host did not take the file: {line(said.strip())}")
    return True


def _has(channel: Any) -> int:
    """The number of bytes that the host has already. Raises EOFError when it ends before it has said it."""
    for text in channel.makefile("r"):
        found = re.fullmatch(rf"{HAS}(\d+)\s*", text)
        if found:
            return int(found[1])
    channel.recv_exit_status()
    raise EOFError("it ended")


class _Progress:
    """Tells people now and then how far an upload is. It begins at `first` of `size` bytes."""

    def __init__(self, host: Host, first: int, size: int) -> None:
        self.host, self.first, self.size = host, first, size
        self.begun = time.monotonic()
        self.due = self.begun + SAID_FIRST

    def at(self, done: int) -> None:
        """So many bytes are there."""
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + SAID_AGAIN
        speed = (done - self.first) / (now - self.begun)
        self.host.log(
            f"{done / 1e6:,.0f} of {self.size / 1e6:,.0f} MB sent, {speed / 1e6:.1f} MB/s, "
            f"{(self.size - done) / speed:.0f} s left"
        )


def _broke(error: Exception, done: int, size: int) -> str:
    why = f"it took nothing for {PATIENCE} s" if isinstance(error, TimeoutError) else line(str(error) or "it ended")
    return (
        f"the connection broke after {done / 1e6:,.0f} of {size / 1e6:,.0f} MB ({why}). Next: see that the host is up "
        "and run this again; it goes on from there"
    )
