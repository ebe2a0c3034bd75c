"""Make connection tracking know the connections that this host has: `python3 - [udp] ACCOUNT...`, as root.

The kernel tracks no connections until a rule asks for it. Of a connection that is older, the next packet would count as
the beginning of a new connection, and rules refuse that. So each open connection is entered as established. Sockets of
the given accounts are left out: connections that these accounts may not begin must not go on. With `udp`, connected UDP
sockets are entered too. They prove less, because perhaps nobody at the other end has answered.
Source of the messages: linux/netfilter/nfnetlink_conntrack.h.
"""

import errno
import pwd
import socket
import struct
import sys
from pathlib import Path

NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW = 1, 0
REQUEST_ACK_CREATE = 0x1 | 0x4 | 0x400
NESTED = 0x8000
#: Status bits: an answer was seen; the entry is not removed early; the entry is in the kernel's list.
STATUS = 0x2 | 0x4 | 0x8
#: States in /proc/net/tcp: established, fin-wait-1, fin-wait-2, close-wait. A connected UDP socket has the first one.
OPEN = ("01", "04", "05", "08")
ESTABLISHED, BE_LIBERAL = 3, 8
SECONDS = {socket.IPPROTO_TCP: 432000, socket.IPPROTO_UDP: 120}


def attribute(number, content):
    size = 4 + len(content)
    return struct.pack("=HH", size, number) + content + bytes(-size % 4)


def direction(number, protocol, source, target):
    """CTA_TUPLE_ORIG (1) or CTA_TUPLE_REPLY (2); `source` and `target` are (address, port)."""
    first, second = (1, 2) if len(source[0]) == 4 else (3, 4)
    addresses = attribute(first, source[0]) + attribute(second, target[0])
    ports = struct.pack(">H", source[1]), struct.pack(">H", target[1])
    described = attribute(1, bytes([protocol])) + attribute(2, ports[0]) + attribute(3, ports[1])
    return attribute(NESTED | number, attribute(NESTED | 1, addresses) + attribute(NESTED | 2, described))


def message(protocol, here, there):
    body = direction(1, protocol, here, there) + direction(2, protocol, there, here)
    body += attribute(3, struct.pack(">I", STATUS))
    if protocol == socket.IPPROTO_TCP:
        # The connection's window is not known, so the kernel must not check it.
        flags = bytes([BE_LIBERAL, BE_LIBERAL])
        tcp = attribute(1, bytes([ESTABLISHED])) + attribute(4, flags) + attribute(5, flags)
        body += attribute(NESTED | 4, attribute(NESTED | 1, tcp))
    body += attribute(7, struct.pack(">I", SECONDS[protocol]))
    family = socket.AF_INET if len(here[0]) == 4 else socket.AF_INET6
    kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW
    return (
        struct.pack("=IHHII", 20 + len(body), kind, REQUEST_ACK_CREATE, 0, 0) + struct.pack("=BBH", family, 0, 0) + body
    )


def end(text):
    """(address, port) of 0100007F:0016, where each four bytes of the address are in the host's order."""
    address, port = text.split(":")
    words = bytes.fromhex(address)
    found = b"".join(struct.pack(">I", *struct.unpack("=I", words[at : at + 4])) for at in range(0, len(words), 4))
    return found[12:] if found.startswith(bytes(10) + b"\xff\xff") else found, int(port, 16)


def connections(lines, passed_over):
    """(here, there) of each open connection in the lines of /proc/net/tcp, tcp6, udp or udp6."""
    for line in lines:
        fields = line.split()
        if fields[3] in OPEN and int(fields[7]) not in passed_over:
            yield end(fields[1]), end(fields[2])


def numbers(accounts):
    return {account.pw_uid for account in pwd.getpwall() if account.pw_name in accounts}


def main(arguments):
    protocols = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
    passed_over = numbers(arguments)
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    for name, protocol in protocols.items():
        if name == "udp" and name not in arguments:
            continue
        for file in ("/proc/net/" + name, "/proc/net/" + name + "6"):
            try:
                lines = Path(file).read_text().splitlines()[1:]
            except FileNotFoundError:  # a host without IPv6
                continue
            for here, there in connections(lines, passed_over):
                kernel.send(message(protocol, here, there))
                error = -struct.unpack_from("=i", kernel.recv(65536), 16)[0]
                if error:
                    why = errno.errorcode.get(error, error)
                    sys.exit(f"connection tracking takes no entry ({why}). Next: modprobe nf_conntrack_netlink")


if __name__ == "__main__":
    main(sys.argv[1:])
