"""Doors outside the house that its hosts can see: what is refused there, is refused by the one who asks.

Outside a lab there is no internet host that nobody is bothered with. This computer is outside the house's servers, too:
their accounts may begin no connection to it, while a person's computer may. So is a jump host, where sshd listens.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import threading
from collections.abc import Iterable


class Doors:
    """Listeners at own addresses, each on a port of the kernel's choice; who comes is let in and sent away at once."""

    def __init__(self, addresses: Iterable[str]) -> None:
        """`addresses`: where the hosts see this computer. One that is only for itself is left out."""
        self.open(text for text in sorted(set(addresses)) if text and not _is_local(text))

    def open(self, addresses: Iterable[str]) -> None:
        """Listen at each that is this computer's own: behind NAT none is."""
        self.sockets: list[socket.socket] = []
        for text in addresses:
            with contextlib.suppress(OSError):
                family = socket.AF_INET6 if ":" in text else socket.AF_INET
                self.sockets.append(socket.create_server((text, 0), family=family))
        for each in self.sockets:
            threading.Thread(target=_let_in, args=(each,), daemon=True).start()

    @property
    def targets(self) -> tuple[tuple[str, int], ...]:
        """Address and port of each."""
        return tuple((each.getsockname()[0], each.getsockname()[1]) for each in self.sockets)

    def close(self) -> None:
        """Nobody is let in any more."""
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
    """From which of its addresses this computer would talk to another; "" when it knows no way there. Sends nothing."""
    with socket.socket(socket.AF_INET6 if ":" in towards else socket.AF_INET, socket.SOCK_DGRAM) as never_used:
        try:
            never_used.connect((towards, 9))
        except OSError:
            return ""
        return str(never_used.getsockname()[0])


def last_hop(shown: str) -> tuple[str, int] | None:
    """The machine from which ssh makes the last step to a host, as ssh knows it, and the port named for it, or 0.

    None for no jump host. `shown` is what `ssh -G` prints about the host.
    """
    found = re.search(r"^proxyjump (?:.*,)?(?:[^@,\s]*@)?(?:\[([^]\s]+)\]|([^:,\s]+))(?::(\d+))?$", shown, re.MULTILINE)
    if found is None or found[2] == "none":
        return None
    return found[1] or found[2], int(found[3] or 0)


def port_of(shown: str) -> int:
    """The port in what `ssh -G` prints about a machine."""
    found = re.search(r"^port (\d+)$", shown, re.MULTILINE)
    return int(found[1]) if found else 22


def _is_local(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return address.is_loopback or address.is_link_local
