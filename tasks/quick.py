"""What pyinfra and paramiko spend without need, spared. docs/speed.md shows each of it alone."""

from __future__ import annotations

import inspect
import socket
from functools import cache, partial
from typing import Any

from pyinfra.api import Host, State, arguments, util
from pyinfra.api.state import BaseStateCallback


class NoDelay(BaseStateCallback):
    """Switch off Nagle's algorithm: paramiko leaves it on, which costs 40 ms for each remote command."""

    @staticmethod
    def host_connect(state: State, host: Host) -> None:
        client = getattr(host.connector, "client", None)
        if client is not None:
            client.get_transport().sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def spare() -> None:
    """Have pyinfra look no more than once, or not at all, at what does not change while it runs."""
    frames: Any = util
    # The order of operations comes from line numbers. The lines of source around each frame, which are nobody's, are
    # searched for in every module that is loaded.
    frames.stack, frames.getframeinfo = partial(inspect.stack, 0), partial(inspect.getframeinfo, context=0)
    # The types of an operation's arguments, worked out again for each one.
    types: Any = arguments
    types.all_global_arguments = cache(arguments.all_global_arguments)
