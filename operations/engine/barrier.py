"""Make hosts wait for each other."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import StringCommand, operation


@operation()
def barrier() -> Generator[StringCommand, None, None]:
    """Owns nothing and sends no command. Every host calls it on the same line. It splits the run in two: no host begins
    the second part before all hosts have ended the first. Without it, pyinfra would keep only the order of the
    operations of each single host."""
    host.noop("all hosts are here")
    return
    yield
