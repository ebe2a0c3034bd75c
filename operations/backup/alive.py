"""Is the house of a backup alive? Asked of its hosts, and at the addresses at which its control server was."""

from __future__ import annotations

import shlex
import socket
import ssl
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pyinfra.api import Host
from pyinfra.api.exceptions import ConnectError

from facts.ca import CA_FOLDER
from operations.engine.run_on_host import RemoteError, run_on
from plan.house.house import House

#: Seconds for one connection to a control server.
PATIENCE = 4


@dataclass(frozen=True)
class Heard:
    """What one host says. `trusts`: SHA-256 of the authority of this name that it trusts, "" for none. `alive`: whether
    it hears the control server."""

    host: str
    trusts: str
    alive: bool


def ask_hosts(house: House, hosts: Collection[Host]) -> tuple[list[Heard], list[str]]:
    """What hosts say, all asked at the same time; and the names of those that cannot be reached. Costs one remote
    command for each."""
    if not hosts:
        return [], []
    with ThreadPoolExecutor(len(hosts)) as pool:
        answers = list(pool.map(lambda each: _ask(house, each), hosts))
    silent = [str(each.name) for each, answer in zip(hosts, answers, strict=True) if answer is None]
    return [answer for answer in answers if answer], silent


def _ask(house: House, target: Host) -> Heard | None:
    if not target.connected:
        try:
            target.connect(reason="to see whether the house is alive", show_errors=False, raise_exceptions=True)
        except ConnectError:
            return None
    try:
        said = run_on(target, ask_script(house)).split()
    except RemoteError:
        return None
    return Heard(str(target.name), next((word[3:] for word in said if word.startswith("ca=")), ""), "alive" in said)


def ask_script(house: House) -> str:
    """A script that prints the digest of the authority that the host trusts, and whether the control server answers."""
    # The coordinator's own comes first: on a host that was just restored, nothing trusts it yet.
    certificates = f"{CA_FOLDER}/ca.crt /usr/local/share/ca-certificates/private-ai-{house.name}.crt"
    url = shlex.quote(f"https://{house.headscale_name}:{house.port('headscale')}/health")
    return "\n".join(
        [
            f"for c in {certificates}; do [ -s $c ] || continue",
            "d=$(openssl x509 -in $c -outform DER | sha256sum); echo ca=${d%% *}; break; done",
            f"curl --disable --noproxy '*' --silent --max-time {PATIENCE} {url} | grep -q pass && echo alive || :",
        ]
    )


def answering(house: House, addresses: Sequence[str], authority: str) -> list[str]:
    """The addresses at which a control server of this authority (PEM) answers this computer."""
    if not addresses:
        return []
    context = ssl.create_default_context(cadata=authority)
    with ThreadPoolExecutor(len(addresses)) as pool:
        found = list(pool.map(lambda each: _answers(house, each, context), addresses))
    return [address for address, good in zip(addresses, found, strict=True) if good]


def _answers(house: House, address: str, context: ssl.SSLContext) -> bool:
    name, port = house.headscale_name, house.port("headscale")
    try:
        with (
            socket.create_connection((address, port), PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            secure.sendall(f"GET /health HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
            return b"pass" in secure.recv(4096) + secure.recv(4096)
    except OSError:
        return False
