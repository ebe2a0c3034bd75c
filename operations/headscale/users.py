"""The users of Headscale."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence

from pyinfra import host, state
from pyinfra.api import StringCommand, operation

from facts.headscale import Headscale
from operations.engine.announced_changes import differs, not_yet
from operations.engine.answers import ask
from plan.engine.difference import MISSING, Change


@operation()
def users(names: Sequence[str]) -> Generator[StringCommand, None, None]:
    """Own the existence of these Headscale users. Other users are left alone."""
    known = ask(host, Headscale)
    if not known.answers and not state.is_executing:
        yield not_yet("Headscale does not answer")
        return
    missing = [name for name in names if name not in known.users]
    if not missing:
        host.noop("all users exist")
        return
    differs(*(Change(f"user {name} of Headscale", "made", MISSING) for name in missing))
    for name in missing:
        yield StringCommand(f"headscale users create {shlex.quote(name)} -o json >/dev/null")
