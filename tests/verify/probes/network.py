"""Tries connections from the machine on which it runs, and prints the results. It is sent to a vantage point over SSH.

Usage: python3 network.py JOB. JOB and the printed answer are JSON, see `main`. It uses only modules of Debian's
python3-minimal. It opens and closes connections, sends STUN and DNS requests, and asks services for their state.
"""

from __future__ import annotations

import collections
import errno
import ipaddress
import json
import os
import pwd
import select
import selectors
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

ALL_PORTS = range(1, 65536)
#: The most connections to one address at the same time. A lower limit on open files makes it fewer.
WINDOW = 16000
#: How many addresses are swept in parallel.
SIDE_BY_SIDE = 4
#: Seconds for a connection. The kernel sends the first packet again after 1 s (RFC 6298), so one may be lost.
CONNECT_SECONDS = 1.5
#: Seconds for a connection through WireGuard, which may first have to find its path.
CALM_SECONDS = 4.0
STUN_SECONDS = 1.5
DNS_SECONDS = 3.0
#: Seconds for one read from a service that has accepted the connection. A busy model server may need long.
SERVICE_SECONDS = 15.0
PING_SECONDS = 20
#: A name outside the house that every name server of the internet knows.
DNS_NAME = "example.com"

#: STUN (RFC 8489): binding request and its success response, cookie, the attributes used.
BINDING_REQUEST, BINDING_SUCCESS, COOKIE = 0x0001, 0x0101, 0x2112A442
XOR_MAPPED_ADDRESS, SOFTWARE, FINGERPRINT = 0x0020, 0x8022, 0x8028

OPEN, RESET, SILENT, UNKNOWN_NAME = "open", "reset", "silent", "no such name"
PROHIBITED, UNREACHABLE = "prohibited", "unreachable"

#: For each family: the socket option that keeps ICMP errors, with its level; and type and code of the ICMP error of a
#: machine that nobody finds on the network. Python's socket module has no names for the options (linux/in.h,
#: linux/in6.h).
KEEP_ICMP = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
NOT_FOUND: dict[int, tuple[int, int]] = {socket.AF_INET: (3, 1), socket.AF_INET6: (1, 3)}


def outcome_of(number: int) -> str:
    """A socket error as one word: `open` (no error), `reset` (the host answers, but nothing listens), `prohibited` (a
    firewall such as ours refuses, or nobody has the address), `silent` (no answer), else the error's name in lower
    case. `refused_or_off` tells the two meanings of `prohibited` apart."""
    words = {
        0: OPEN,
        errno.ECONNREFUSED: RESET,
        errno.EHOSTUNREACH: PROHIBITED,
        errno.EACCES: PROHIBITED,
        errno.ETIMEDOUT: SILENT,
    }
    return words.get(number) or errno.errorcode.get(number, str(number)).lower()


def outcome_at(connection: socket.socket, number: int) -> str:
    """The outcome of a TCP connection that ended with an error. `connection` must keep ICMP errors (KEEP_ICMP)."""
    outcome = outcome_of(number)
    if outcome != PROHIBITED:
        return outcome
    try:
        kept = connection.recvmsg(1, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)[1]
    except OSError:
        return outcome
    return refused_or_off(connection.family, [data for _, _, data in kept])


def refused_or_off(family: int, kept: list[bytes]) -> str:
    """`unreachable` when nobody on the network has the address, for example because the machine is off; else
    `prohibited`. The kernel may use one error number for both, but the ICMP errors that it has kept differ."""
    # struct sock_extended_err (linux/errqueue.h): error number, origin, ICMP type, ICMP code, ...
    icmp = [struct.unpack_from("=IBBB", data)[2:] for data in kept if len(data) >= 16]
    return UNREACHABLE if NOT_FOUND[family] in icmp else PROHIBITED


def connect_all(targets: list[tuple[str, int]], seconds: float) -> list[str]:
    """Tries a TCP connection to each (address, port) for at most `seconds`, and returns the outcomes."""
    outcomes = [SILENT] * len(targets)
    selector = selectors.DefaultSelector()
    under_way: dict[int, socket.socket] = {}
    deadlines: collections.deque[tuple[float, int]] = collections.deque()
    window, following = WINDOW, 0

    def finish(number: int, outcome: str) -> None:
        connection = under_way.pop(number)
        selector.unregister(connection)
        connection.close()
        outcomes[number] = outcome

    while following < len(targets) or under_way:
        while following < len(targets) and len(under_way) < window:
            address, port = targets[following]
            try:
                connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS) or not under_way:
                    raise
                window = len(under_way)
                break
            connection.setblocking(False)
            connection.setsockopt(*KEEP_ICMP[connection.family], 1)
            number = connection.connect_ex((address, port))
            if number == errno.EINPROGRESS:
                under_way[following] = connection
                selector.register(connection, selectors.EVENT_WRITE, following)
                deadlines.append((time.monotonic() + seconds, following))
            else:
                outcome = outcome_at(connection, number)
                connection.close()
                if number in (errno.EADDRNOTAVAIL, errno.EAGAIN, errno.ENOBUFS) and under_way:
                    break  # no local port is free now: try this target again when other connections have ended
                outcomes[following] = outcome
            following += 1
        if not under_way:
            continue
        for key, _ in selector.select(min(0.05, max(0.0, deadlines[0][0] - time.monotonic()))):
            ended = under_way[key.data]
            finish(key.data, outcome_at(ended, ended.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
        while deadlines and (deadlines[0][1] not in under_way or deadlines[0][0] <= time.monotonic()):
            number = deadlines.popleft()[1]
            if number in under_way:
                finish(number, SILENT)
    selector.close()
    return outcomes


def sweep(address: str) -> dict[str, object]:
    """Tries every TCP port of an address. Returns the lists of `open` and `reset` ports, and `counts` of all
    outcomes."""
    outcomes = connect_all([(address, port) for port in ALL_PORTS], CONNECT_SECONDS)
    return {
        "open": [port for port, outcome in zip(ALL_PORTS, outcomes, strict=True) if outcome == OPEN],
        "reset": [port for port, outcome in zip(ALL_PORTS, outcomes, strict=True) if outcome == RESET],
        "counts": dict(collections.Counter(outcomes)),
    }


def sweep_all(addresses: list[str]) -> dict[str, object]:
    """Sweeps addresses, each in its own process; null for an address whose process failed."""
    found: dict[str, object] = {}
    left = list(addresses)
    running: dict[int, str] = {}
    while left or running:
        while left and len(running) < SIDE_BY_SIDE:
            address = left.pop(0)
            reading, writing = os.pipe()
            if os.fork() == 0:
                status = 1
                try:
                    # A sweep makes some 65,000 connections, so the machine's other work comes first.
                    os.nice(10)
                    os.close(reading)
                    with os.fdopen(writing, "w") as stream:
                        json.dump(sweep(address), stream)
                    status = 0
                finally:
                    os._exit(status)
            os.close(writing)
            running[reading] = address
        for reading in select.select(list(running), [], [])[0]:
            with os.fdopen(reading) as stream:
                found[running.pop(reading)] = json.loads(stream.read() or "null")
            os.wait()
    return found


def stun_request(transaction: bytes) -> bytes:
    """A STUN binding request with a transaction id of 12 bytes.

    It has the software name and the fingerprint, because Tailscale's STUN server, which Headscale uses, does not answer
    without them (tailscale.com/net/stun).
    """
    software = struct.pack("!HH", SOFTWARE, 8) + b"tailnode"
    head = struct.pack("!HHI", BINDING_REQUEST, len(software) + 8, COOKIE) + transaction
    checksum = zlib.crc32(head + software) ^ 0x5354554E
    return head + software + struct.pack("!HHI", FINGERPRINT, 4, checksum)


def stun_mapped(answer: bytes, transaction: bytes) -> str:
    """Our address as the STUN server saw it, from its answer. Raises ValueError for a wrong answer."""
    if len(answer) < 20:
        raise ValueError("too short for STUN")
    kind, length, cookie = struct.unpack_from("!HHI", answer)
    if (kind, cookie, answer[8:20], len(answer)) != (BINDING_SUCCESS, COOKIE, transaction, 20 + length):
        raise ValueError("not a success response to this request")
    offset = 20
    while offset + 4 <= len(answer):
        name, size = struct.unpack_from("!HH", answer, offset)
        value = answer[offset + 4 : offset + 4 + size]
        if name == XOR_MAPPED_ADDRESS and len(value) in (8, 20):
            # After family and port comes the address, XORed with the cookie and the transaction id.
            plain = bytes(a ^ b for a, b in zip(value[4:], struct.pack("!I", COOKIE) + transaction, strict=False))
            seen = ipaddress.ip_address(plain)
            # A server with one socket for both families sees an IPv4 address as an IPv6 address.
            return str(getattr(seen, "ipv4_mapped", None) or seen)
        offset += 4 + (size + 3) // 4 * 4
    raise ValueError("no XOR-MAPPED-ADDRESS in the answer")


def stun(address: str, port: int) -> str:
    """Asks a STUN server, and once more if it does not answer. Returns "mapped ADDRESS", or the error."""
    said = SILENT
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(STUN_SECONDS)
        for _ in range(2):
            transaction = os.urandom(12)
            try:
                connection.connect((address, port))
                connection.send(stun_request(transaction))
                return f"mapped {stun_mapped(connection.recv(2048), transaction)}"
            except ValueError as error:
                said = str(error)
            except TimeoutError:
                said = SILENT
            except OSError as error:
                said = outcome_of(error.errno or 0)
    return said


def resolve(name: str) -> list[str]:
    """The addresses that this machine's resolver gives for a name or an address; empty when it knows none."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
    except OSError:
        return []


def dns(address: str, name: str) -> str:
    """Asks a name server for a name over UDP. Returns "answered", or the error."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = os.urandom(2) + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, 1, 1)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(DNS_SECONDS)
        try:
            connection.connect((address, 53))
            connection.send(query)
            return "answered" if connection.recv(2048)[:2] == query[:2] else "not an answer to this question"
        except TimeoutError:
            return SILENT
        except OSError as error:
            return outcome_of(error.errno or 0)


def service(kind: str, host: str, port: int, name: str, authority: str) -> str:
    """Asks a service for its state, in its own protocol. Returns "ok: DETAIL", or the error.

    `kind`: headscale or openclaw (over TLS, with a certificate for `name` from the CA `authority`, PEM), ollama, ssh,
    or tcp for an unknown service.
    """
    try:
        with socket.create_connection((host, port), CALM_SECONDS) as plain:
            plain.settimeout(SERVICE_SECONDS)
            if kind == "tcp":
                return "ok: accepts"
            if kind == "ssh":
                banner = plain.recv(256).split(b"\r")[0].decode(errors="replace")
                return f"ok: {banner}" if banner.startswith("SSH-2.0-") else f"no SSH server: {banner[:60]!r}"
            if kind == "ollama":
                said = http(plain, "/api/version", f"127.0.0.1:{port}")
                return f"ok: Ollama {said['version']}"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=authority)
            with context.wrap_socket(plain, server_hostname=name) as secure:
                if kind == "headscale":
                    health = http(secure, "/health", name).get("status")
                    return "ok: Headscale passes" if health == "pass" else f"Headscale's health: {health}"
                ready = http(secure, "/readyz", name).get("ready")
                return "ok: OpenClaw is ready" if ready is True else f"OpenClaw's readiness: {ready}"
    except ssl.SSLCertVerificationError as error:
        return f"certificate: {error.verify_message}"
    except ssl.SSLError as error:
        return f"TLS: {error.reason}"
    except socket.gaierror:
        return UNKNOWN_NAME
    except TimeoutError:
        return SILENT
    except OSError as error:
        return outcome_of(error.errno or 0)
    except (ValueError, KeyError) as error:
        return f"not understood: {error!r}"


def http(connection: socket.socket, path: str, host: str) -> dict[str, Any]:
    """The JSON object with which a server answers for a path. Raises ValueError for any other answer."""
    connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    said = b""
    while len(said) < 65536 and (part := connection.recv(65536)):
        said += part
    head, _, body = said.partition(b"\r\n\r\n")
    status = head.split(b"\r\n")[0].split(b" ")
    if len(status) < 2 or status[1] not in (b"200", b"503"):
        raise ValueError(f"status {head[:40]!r}")
    found = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def ping(peer: str) -> str:
    """The path of WireGuard's packets to a node: "ADDRESS:PORT", "relay NAME", or an error in words.

    It does not show whether the policy is right, because the policy does not apply to these packets.
    """
    command = ["tailscale", "ping", "--c=5", "--timeout=2s", "--until-direct", peer]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PING_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    ways = [line.partition(" via ")[2].rpartition(" in ")[0] for line in done.stdout.splitlines() if " via " in line]
    if not ways:
        return (done.stdout + done.stderr).strip()[-200:] or "no answer"
    return ways[-1] if not ways[-1].startswith("DERP") else f"relay {ways[-1]}"


def as_user(user: str, job: dict[str, Any]) -> dict[str, Any] | None:
    """Runs a job in a process of that user; null when it failed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            account = pwd.getpwnam(user)
            os.setgroups([])
            os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
            os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
            with os.fdopen(writing, "w") as stream:
                json.dump(main(job), stream)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    found: dict[str, Any] | None = json.loads(text or "null")
    return found


def main(job: dict[str, Any]) -> dict[str, object]:
    """Runs a job. JOB: `sweep` addresses, `connect` and `stun` "HOST PORT", `resolve` names, `dns` addresses of name
    servers, `service` "KIND HOST PORT NAME" with `authority` (PEM), `ping` nodes, `as` user -> JOB. HOST may be a name.

    Answer: the same keys, each with an object: item of the job -> result.
    """
    answers: dict[str, dict[str, object]] = {"stun": {}, "dns": {}, "service": {}, "ping": {}, "resolve": {}, "as": {}}

    def ask(part: str, item: str, *arguments: Any) -> None:
        answers[part][item] = QUESTIONS[part](*arguments)

    # The jobs of other users come first, because a process with threads should not fork.
    for user, its in job.get("as", {}).items():
        ask("as", user, user, its)
    authority = job.get("authority", "")
    questions: list[tuple[Any, ...]] = [("resolve", name, name) for name in job.get("resolve", [])]
    questions += [("stun", item, item.split()[0], int(item.split()[1])) for item in job.get("stun", [])]
    questions += [("dns", address, address, DNS_NAME) for address in job.get("dns", [])]
    questions += [("ping", peer, peer) for peer in job.get("ping", [])]
    for item in job.get("service", []):
        kind, host, port, name = item.split()
        questions.append(("service", item, kind, host, int(port), name, authority))
    threads = [threading.Thread(target=ask, args=arguments) for arguments in questions]
    for thread in threads:
        thread.start()
    pairs = {item: item.split() for item in job.get("connect", [])}
    found = {item: (resolve(host) or [""])[0] for item, (host, _) in pairs.items()}
    known = [item for item in pairs if found[item]]
    outcomes = dict.fromkeys(pairs, UNKNOWN_NAME)
    tried = connect_all([(found[item], int(pairs[item][1])) for item in known], CALM_SECONDS)
    outcomes.update(zip(known, tried, strict=True))
    for thread in threads:
        thread.join()
    return {**answers, "connect": outcomes, "sweep": sweep_all(job.get("sweep", []))}


QUESTIONS: dict[str, Callable[..., object]] = {
    "stun": stun,
    "dns": dns,
    "service": service,
    "ping": ping,
    "resolve": resolve,
    "as": as_user,
}

if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
