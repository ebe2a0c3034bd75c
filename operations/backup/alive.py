"""Is the house of a backup alive? Asked of its hosts, and at the addresses at which its control server was."""

from __future__ import annotations

import hashlib
import shlex
import socket
import ssl
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pyinfra.api import Host
from pyinfra.api.exceptions import ConnectError

from facts.ca import CA_FOLDER
from operations.engine.run_on_host import RemoteError, run_on
from plan.house.house import House

#: Seconds for one connection to a control server.
PATIENCE = 4


@dataclass(frozen=True)
class Heard:
    """What one host says. `trusts`: SHA-256 of the public keys of the authorities of this name that it trusts. `alive`:
    whether it hears the control server."""

    host: str
    trusts: frozenset[str]
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
    keys = frozenset(word.removeprefix("key=") for word in said if word.startswith("key="))
    return Heard(str(target.name), keys, "alive" in said)


def ask_script(house: House) -> str:
    """A script that prints the digests of the keys of the authorities that the host trusts, and whether the control
    server answers. An authority that was renewed has the same key."""
    # The coordinator's own as well: on a host that was just restored, nothing trusts it yet.
    certificates = f"{CA_FOLDER}/ca.crt /usr/local/share/ca-certificates/private-ai-{house.name}*.crt"
    url = shlex.quote(f"https://{house.headscale_name}:{house.port('headscale')}/health")
    key = "openssl x509 -in $c -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum"
    return "\n".join(
        [
            f"for c in {certificates}; do [ ! -s $c ] || {{ d=$({key}); echo key=${{d%% *}}; }}; done",
            f"curl --disable --noproxy '*' --silent --max-time {PATIENCE} {url} | grep -q pass && echo alive || :",
        ]
    )


def key_of(authority: str) -> str:
    """SHA-256 of the public key of an authority (PEM), as `ask_script` prints it."""
    public = x509.load_pem_x509_certificate(authority.encode()).public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


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
