"""The files in which a host's root differs from the packed root: texts, by path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lab import lived_in, phone
from lab.network import PROXY_PORT
from lab.topology import PHONE, WORLD_V4, WORLD_V6, Host, Lab

FILES = Path(__file__).resolve().parent / "files"

# Units that do not work in a container, or that work at random moments: apt's timers would hold apt's lock.
MASKED = (
    "systemd-modules-load.service",
    "systemd-networkd-wait-online.service",
    "sshd-keygen.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "fstrim.timer",
)

ENABLED = {
    "multi-user.target.wants": (
        "systemd-networkd.service",
        # Without it, Podman's user units wait 90 s.
        "network-online.target",
    ),
    "sockets.target.wants": ("systemd-networkd.socket",),
    "network-online.target.wants": ("lab-online.service",),
}

# In a container, systemd's own wait for the network does not end. The addresses are static, so this unit waits for
# them.
ONLINE_UNIT = """\
[Unit]
Description=Wait for the lab's addresses
DefaultDependencies=no
Conflicts=shutdown.target
After=systemd-networkd.service
Before=network-online.target shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=30
ExecStart=/bin/sh -c 'until ip -o address show dev host0 | grep -q "inet6 {v6}/"; do sleep 0.1; done'
"""

# llama.cpp starts one thread for each core. If two labs share two cores, its threads wait for each other most of the
# time: a prompt of 2,170 tokens took 42 s with two threads, and 22 s with one. Programs that count cores read these
# files: processors with the same text are threads of one core.
ONE_CORE_UNIT = """\
[Unit]
Description=The processor looks like one core
DefaultDependencies=no
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
RuntimeDirectory=lab-one-core
RuntimeDirectoryPreserve=yes
ExecStart=/bin/sh -ec 'echo 1 > /run/lab-one-core/siblings; \
  for file in /sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings; do \
  mount --bind /run/lab-one-core/siblings $file; done'
"""

WEB_UNIT = """\
[Unit]
Description=The lab's internet, answering on 80 and 443 and as a name server
After=network-online.target

[Service]
RuntimeDirectory=lab-web
ExecStartPre=/usr/bin/openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \\
  -subj /CN=internet -addext subjectAltName=IP:{v4},IP:{v6} -keyout %t/lab-web/key -out %t/lab-web/certificate
ExecStart=/usr/bin/python3 /usr/local/lib/lab-web.py %t/lab-web/certificate %t/lab-web/key {listen}
Restart=on-failure

[Install]
WantedBy=multi-user.target
"""

# The router has no uplink. It answers "unreachable" at once; without an answer, each attempt would take until its time
# limit.
ROUTER = """\
net.ipv4.ip_forward=1
net.ipv4.icmp_ratelimit=0
net.ipv6.conf.all.forwarding=1
net.ipv6.icmp.ratelimit=0
"""

SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
"""


@dataclass(frozen=True)
class Guest:
    """The files of one host: texts and their modes by path (without leading slash), and symbolic links."""

    texts: dict[str, tuple[str, int]]
    links: dict[str, str]


def guest(lab: Lab, host: Host, machine_id: str, host_key: tuple[str, str], login: str) -> Guest:
    """All files that only this host has.

    `machine_id` is 32 hexadecimal digits. `host_key` is the private and the public half of the host's SSH key. `login`
    is the public key that may log in as root.
    """
    private, public = host_key
    proxy = f"http://{lab.controller.v4}:{PROXY_PORT}/"
    texts = {
        "etc/hostname": (f"{host.name}\n", 0o644),
        "etc/hosts": (
            f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n::1 localhost ip6-localhost ip6-loopback\n",
            0o644,
        ),
        # As in a home, the router is the name server. The lab's router knows example.com and no other name.
        "etc/resolv.conf": (f"nameserver {lab.router.v4}\n", 0o644),
        "etc/machine-id": (f"{machine_id}\n", 0o444),
        lived_in.NETWORK: (_network(lab, host), 0o644),
        "etc/systemd/system/lab-online.service": (ONLINE_UNIT.format(v6=host.v6), 0o644),
        # Without these two files, stopping a host takes two minutes.
        "etc/systemd/system.conf.d/lab.conf": ("[Manager]\nDefaultTimeoutStopSec=8s\n", 0o644),
        "etc/systemd/system/user@.service.d/lab.conf": ("[Service]\nTimeoutStopSec=5s\n", 0o644),
        "etc/ssh/sshd_config.d/10-lab.conf": (SSHD, 0o644),
        "etc/ssh/ssh_host_ed25519_key": (private, 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (public, 0o644),
        "root/.ssh/authorized_keys": (login, 0o600),
        "etc/apt/apt.conf.d/10lab-proxy": (
            f'Acquire::http::Proxy "{proxy}";\nAcquire::https::Proxy "{proxy}";\n',
            0o644,
        ),
    }
    system = "etc/systemd/system"
    links = {f"{system}/{unit}": "/dev/null" for unit in MASKED}
    for target, units in ENABLED.items():
        for unit in units:
            folder = "/etc/systemd/system" if unit.startswith("lab-") else "/usr/lib/systemd/system"
            links[f"{system}/{target}/{unit}"] = f"{folder}/{unit}"
    if lab.one_core:
        texts[f"{system}/lab-one-core.service"] = (ONE_CORE_UNIT, 0o644)
        links[f"{system}/sysinit.target.wants/lab-one-core.service"] = f"/{system}/lab-one-core.service"
    if host == lab.router:
        texts["usr/local/lib/lab-web.py"] = ((FILES / "web.py").read_text(), 0o644)
        texts[f"{system}/lab-web.service"] = (
            WEB_UNIT.format(v4=WORLD_V4, v6=WORLD_V6, listen=f"{WORLD_V4} {WORLD_V6} {lab.router.v4}"),
            0o644,
        )
        links[f"{system}/multi-user.target.wants/lab-web.service"] = f"/{system}/lab-web.service"
        texts["etc/sysctl.d/lab.conf"] = (ROUTER, 0o644)
    if host.name == PHONE:
        texts |= phone.TEXTS
        links |= phone.LINKS
    lived_in.furnish(lab, host, login, proxy, texts, links)
    return Guest(texts, links)


def _network(lab: Lab, host: Host) -> str:
    addresses = [f"{host.v4}/24", f"{host.v6}/64"]
    routes = [str(lab.router.v4), str(lab.router.v6)]
    if host == lab.router:
        addresses += [f"{WORLD_V4}/32", f"{WORLD_V6}/128"]
        routes = []
    parts = ["[Match]\nName=host0\n", "[Network]\nDHCP=no\nIPv6AcceptRA=no\n"]
    # This program gives out the addresses, so no other host can have them. Without probing, a boot takes a second less.
    parts += [f"[Address]\nAddress={a}\nDuplicateAddressDetection=none\n" for a in addresses]
    parts += [f"[Route]\nGateway={gateway}\n" for gateway in routes]
    return "\n".join(parts)


def write_guest(root: Path, files: Guest) -> None:
    """Write a host's files into its unpacked root."""
    for name, (text, mode) in files.texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A root may contain absolute links. Following one here would write to a file of the machine itself.
        if path.is_symlink():
            path.unlink()
        path.touch(mode=0o600)
        path.write_text(text)
        path.chmod(mode)
    for name, target in files.links.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    for home in (root / "home").iterdir():
        owner = home.stat()
        for path in (home, *home.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    for folder in (root / "root/.ssh", *(root / "home").glob("*/.ssh")):
        if folder.is_dir():
            folder.chmod(0o700)
