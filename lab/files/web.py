"""Runs on the `internet` host. Answers HTTP on 80, HTTPS on 443 and DNS on 53/udp, over IPv4 and IPv6, and logs who
asked.

DNS knows one name, example.com, with this host's addresses. Uses only modules of Debian's python3-minimal.
Usage: web.py CERTIFICATE KEY IPV4 IPV6 [MORE ADDRESSES FOR DNS]
"""

import socket
import ssl
import struct
import sys
import threading

NAME = b"\x07example\x03com\x00"
A, AAAA = 1, 28


def answer(connection: socket.socket, port: int, context: ssl.SSLContext | None) -> None:
    client = connection.getpeername()[0]
    try:
        connection.settimeout(5)
        if context:
            connection = context.wrap_socket(connection, server_side=True)
        request = connection.recv(4096).decode(errors="replace").splitlines()
        print(f"{client} {port} {request[0] if request else '-'}", flush=True)
        body = f"internet: you are {client}\n".encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)
    except OSError as error:
        print(f"{client} {port} {error}", flush=True)
    finally:
        connection.close()


def serve(port: int, context: ssl.SSLContext | None) -> None:
    with socket.create_server(("::", port), family=socket.AF_INET6, backlog=64, dualstack_ipv6=True) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=answer, args=(connection, port, context), daemon=True).start()


def dns_answer(query: bytes, addresses: dict[int, bytes]) -> bytes:
    """The answer to a DNS query (RFC 1035) with one question: this host for NAME, "no such name" for all other
    names."""
    end = query.index(b"\x00", 12) + 5
    kind = int(struct.unpack("!H", query[end - 4 : end - 2])[0])
    known = query[12 : end - 4].lower() == NAME
    value = addresses.get(kind, b"") if known else b""
    # The flags mean: response, recursion desired, recursion available. 3 is NXDOMAIN.
    head = query[:2] + struct.pack("!HHHHH", 0x8180 | (0 if known else 3), 1, 1 if value else 0, 0, 0)
    # The record's name is a pointer to the name in the question.
    record = struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(value)) + value
    return head + query[12:end] + (record if value else b"")


def serve_dns(address: str, addresses: dict[int, bytes]) -> None:
    # One socket for each address, because an answer must come from the address that was asked.
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        while True:
            query, client = server.recvfrom(4096)
            try:
                server.sendto(dns_answer(query, addresses), client)
                print(f"{client[0]} dns {query[12:].split(bytes(1))[0]!r}", flush=True)
            except (ValueError, struct.error, OSError) as error:
                print(f"{client[0]} dns {error}", flush=True)


known = {A: socket.inet_pton(socket.AF_INET, sys.argv[3]), AAAA: socket.inet_pton(socket.AF_INET6, sys.argv[4])}
for own in sys.argv[3:]:
    threading.Thread(target=serve_dns, args=(own, known), daemon=True).start()
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(sys.argv[1], sys.argv[2])
threading.Thread(target=serve, args=(80, None), daemon=True).start()
serve(443, tls)
