"""Runs on the `internet` host: answers HTTP on 80 and HTTPS on 443, IPv4 and IPv6, and logs who asked.

Only modules of Debian's python3-minimal. Usage: web.py CERTIFICATE KEY
"""

import socket
import ssl
import sys
import threading


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


tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(sys.argv[1], sys.argv[2])
threading.Thread(target=serve, args=(80, None), daemon=True).start()
serve(443, tls)
