"""Doors: ports outside the house that accept connections. If a host cannot connect to one, the host itself refuses it.

Outside a lab, we do not want to use a stranger's internet host for this. Instead we use a port of this computer, which
is outside the house: a server's accounts may not begin connections to it, but a person's computer may. The sshd of a
jump host serves as a door too.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import threading
from collections.abc import Iterable


class Doors:
    """Listening sockets at this computer's addresses. The kernel chooses the ports. Each connection is accepted and
    closed at once."""

    def __init__(self, addresses: Iterable[str]) -> None:
        """`addresses`: this computer's addresses as the hosts see them. Leaves out loopback and link-local
        addresses."""
        self.open(text for text in sorted(set(addresses)) if text and not _is_local(text))

    def open(self, addresses: Iterable[str]) -> None:
        """Listens at each address that this computer really has. Behind NAT it has none of them."""
        self.sockets: list[socket.socket] = []
        for text in addresses:
            with contextlib.suppress(OSError):
                family = socket.AF_INET6 if ":" in text else socket.AF_INET
                self.sockets.append(socket.create_server((text, 0), family=family))
        for each in self.sockets:
            threading.Thread(target=_let_in, args=(each,), daemon=True).start()

    @property
    def targets(self) -> tuple[tuple[str, int], ...]:
        """Address and port of each socket."""
        return tuple((each.getsockname()[0], each.getsockname()[1]) for each in self.sockets)

    def close(self) -> None:
        """Stops listening."""
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _let_in(door: socket.socket) -> None:
    while True:
        try:
            connection, _ = door.accept()
            connection.close()
        except OSError:
            return


def own_address(towards: str) -> str:
    """This computer's address for connections to another machine; "" when there is no route. Sends nothing."""
    with socket.socket(socket.AF_INET6 if ":" in towards else socket.AF_INET, socket.SOCK_DGRAM) as never_used:
        try:
            never_used.connect((towards, 9))
        except OSError:
            return ""
        return str(never_used.getsockname()[0])


def last_hop(shown: str) -> tuple[str, int] | None:
    """The last jump host before a host: its name in SSH's configuration, and its port there, or 0.

    None without a jump host. `shown`: the output of `ssh -G` for the host.
    """
    found = re.search(r"^proxyjump (?:.*,)?(?:[^@,\s]*@)?(?:\[([^]\s]+)\]|([^:,\s]+))(?::(\d+))?$", shown, re.MULTILINE)
    if found is None or found[2] == "none":
        return None
    return found[1] or found[2], int(found[3] or 0)


def port_of(shown: str) -> int:
    """The port in the output of `ssh -G` for a machine."""
    found = re.search(r"^port (\d+)$", shown, re.MULTILINE)
    return int(found[1]) if found else 22


def _is_local(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return address.is_loopback or address.is_link_local
