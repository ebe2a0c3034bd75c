"""Make hosts wait for each other."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import StringCommand, operation


@operation()
def barrier() -> Generator[StringCommand, None, None]:
    """Owns nothing and sends no command. Called by every host on the same line, it splits the run in two:
    pyinfra orders operations per host only, and would otherwise interleave the hosts."""
    host.noop("all hosts are here")
    return
    yield
