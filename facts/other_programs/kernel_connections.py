"""Reads the part of a host's profile about connections that its kernel begins, or root on the kernel's behalf: mounts,
disks and tunnels of other machines."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from plan.base.profile import Outgoing
from plan.engine.ip_addresses import address

#: Types of file systems on other machines, as an extended regular expression of grep.
_TYPES = r"nfs4?|cifs|smb3|ceph|(fuse\.)?glusterfs|fuse\.sshfs"

# Sections of the script in facts/base/profile.py.
# far-mounts: file systems that are mounted now, and those that will be mounted at boot.
# far-devices, far-peers: the kernel's disks (iSCSI, NVMe) and tunnels (WireGuard), without their keys.
# far-names: the names of these servers that /etc/hosts knows, and the name servers for the other names.
SECTIONS = rf"""s far-mounts
m=$(grep -HsE '^[^#]*[[:space:]]({_TYPES})[[:space:]]' /proc/mounts /etc/fstab); printf '%s\n' "$m"
s far-devices; d=$(grep -Hs -e '^DEVTYPE=wireguard$' -e '^[^=]*$' -e traddr= /sys/class/net/*/uevent \
/sys/class/iscsi_connection/*/persistent_* /sys/class/nvme/*/transport /sys/class/nvme/*/address); printf '%s\n' "$d"
s far-peers; e=; case $d in *=wireguard*) e=$(grep -HsiE '^[[:space:]]*(endpoint|name|interface-name)[[:space:]]*=' \
/etc/wireguard/*.conf /etc/systemd/network/*.netdev /etc/NetworkManager/system-connections/*.nmconnection) ;; esac
printf '%s\n' "$e"
s far-names; [ -n "$m$e" ] && {{ grep -hs '^nameserver' /etc/resolv.conf
getent -s hosts:files hosts $(printf '%s\n' "$m" "$e" | sed -nE \
-e 's,^[^:]*:[[:space:]]*([A-Za-z-]+[[:space:]]*=[[:space:]]*)?,,' \
-e 's,^(//|[^@/[:space:]]*@)?([A-Za-z0-9_][A-Za-z0-9_.-]*)[:/].*,\2,p'); }}
"""


@dataclass(frozen=True)
class _Names:
    """`known`: name -> address, for names that the host knows without a name server. `asks`: whether root asks a name
    server on another machine."""

    known: Mapping[str, str]
    asks: bool

    def way(self, what: str, server: str, seen: str, ports: tuple[str, ...]) -> Outgoing:
        """The connection as Outgoing. `seen`: the address in use now, or ""."""
        literal = _address(server)
        known = literal or self.known.get(server, "")
        return Outgoing(what, server, _address(seen) or known, ports, asked=self.asks and not known)


def parse_outgoing(sections: Mapping[str, Sequence[str]]) -> tuple[Outgoing, ...]:
    """The connections from the output's sections. Raises KeyError for a missing section."""
    names = _names(sections["far-names"])
    found = [*_mounts(sections["far-mounts"], names), *_disks(sections["far-devices"], names)]
    found += _tunnels(sections["far-devices"], sections["far-peers"], names)
    return tuple(dict.fromkeys(found))


def _names(lines: Iterable[str]) -> _Names:
    known: dict[str, str] = {}
    servers = []
    for line in lines:
        first, *more = line.split()
        if first == "nameserver":
            servers += more[:1]
        elif found := _address(first):
            for name in more:
                # A name may have an address of each family. IPv4 wins, because most people write that into a row.
                if ":" in known.get(name, ":"):
                    known[name] = found
    # If resolv.conf names no name server, glibc asks the one on this host (resolv.conf(5)).
    return _Names(known, any(not _is_loopback(server) for server in servers))


def _mounts(lines: Iterable[str], names: _Names) -> Iterator[Outgoing]:
    """From `/proc/mounts:nas:/photos /srv/photos nfs4 rw,addr=192.0.2.5 0 0`, and lines of /etc/fstab in the same
    form."""
    now: dict[str, tuple[str, str, dict[str, str]]] = {}
    boot: dict[str, tuple[str, str, dict[str, str]]] = {}
    for line in lines:
        file, _, rest = line.partition(":")
        words = rest.split()
        if len(words) < 3:
            continue
        options = dict(each.partition("=")[::2] for each in words[3].split(",")) if len(words) > 3 else {}
        (now if file == "/proc/mounts" else boot)[words[1]] = (words[0], words[2], options)
    for place in dict.fromkeys((*now, *boot)):
        source, kind, options = boot.get(place) or now[place]
        # The options of the present mount come last, since they have the address and the ports that are in use.
        options = {**options, **now[place][2]} if place in now else options
        what, ports = _kind(kind, options)
        if ports is not None:
            yield names.way(f"{what} at {place}", _server(source), options.get("addr", ""), ports)


def _kind(kind: str, options: Mapping[str, str]) -> tuple[str, tuple[str, ...] | None]:
    """A file system in words, and the ports of its server; None for a file system whose packets no firewall sees."""

    def port(usual: int) -> int:
        given = options.get("port", "")
        return int(given) if re.fullmatch(r"[1-9][0-9]{0,4}", given) else usual

    match kind:
        case "nfs" | "nfs4":
            protocol = options.get("proto", "tcp").removesuffix("6")
            if protocol not in ("tcp", "udp"):  # RDMA
                return "NFS mount", None
            ports = (f"{port(2049)}/{protocol}",)
            version = options.get("vers") or options.get("nfsvers") or "4"
            if version[:1] in ("2", "3"):
                mount = options.get("mountproto", protocol).removesuffix("6")
                more = (f"111/{mount}", *([f"{options['mountport']}/{mount}"] if "mountport" in options else []))
                return f"NFS {version[:1]} mount", (*ports, *more)
            return "NFS mount", ports
        case "cifs" | "smb3":
            return "CIFS mount", (f"{port(445)}/tcp",)
        case "fuse.sshfs":
            return "sshfs mount", (f"{port(22)}/tcp",)
        case "ceph":
            return "Ceph mount", ()
        case _:
            return "GlusterFS mount", ()


def _server(source: str) -> str:
    """The server in `nas:/photos`, `//nas/photos`, `anna@nas:photos`, `[2001:db8::5]:/photos`."""
    if source.startswith("//"):
        return source[2:].partition("/")[0].strip("[]")
    # Only an @ before the first : and / is a user's name; a path may have an @ too.
    host = re.sub(r"^[^@/:]*@", "", source)
    before, root, _ = host.partition(":/")
    # With ":/", the part before it is the server (for Ceph: several servers with ports). sshfs also accepts a path that
    # does not begin with "/".
    if root:
        return before.strip("[]")
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _disks(lines: Iterable[str], names: _Names) -> Iterator[Outgoing]:
    # An iSCSI connection has a colon in its name: connection1:0.
    forms = (re.fullmatch(r"(/\S*?/(?:persistent_\w+|transport|address)):(.*)", line) for line in lines)
    files = {form[1]: form[2] for form in forms if form}
    for path, said in files.items():
        folder, _, name = path.rpartition("/")
        if name == "persistent_address":
            yield names.way("iSCSI disk", said, "", (f"{files.get(f'{folder}/persistent_port', '3260')}/tcp",))
        elif name == "address" and files.get(f"{folder}/transport") == "tcp":
            at = dict(each.partition("=")[::2] for each in said.split(","))
            yield names.way("NVMe disk", at.get("traddr", ""), "", (f"{at.get('trsvcid', '4420')}/tcp",))


def _tunnels(devices: Iterable[str], lines: Iterable[str], names: _Names) -> Iterator[Outgoing]:
    """The peers of WireGuard interfaces whose address is known, from the interfaces' configuration files."""
    there = {line.split("/")[4] for line in devices if line.endswith("=wireguard")}
    called: dict[str, str] = {}
    peers: list[tuple[str, str]] = []
    for line in lines:
        file, _, rest = line.partition(":")
        key, _, value = (word.strip() for word in rest.partition("="))
        if key.lower() == "endpoint":
            peers.append((file, value))
        else:
            called[file] = value
    for file, peer in peers:
        device = called.get(file) or file.rpartition("/")[2].removesuffix(".conf")
        host, _, port = peer.rpartition(":")
        if device in there and re.fullmatch(r"[1-9][0-9]{0,4}", port):
            yield names.way(f"WireGuard tunnel {device}", host.strip("[]"), "", (f"{port}/udp",))


def _address(text: str) -> str:
    try:
        return str(address(text))
    except ValueError:
        return ""


def _is_loopback(text: str) -> bool:
    found = _address(text)
    return bool(found) and ipaddress.ip_address(found).is_loopback
