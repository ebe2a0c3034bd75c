"""The profile `lived-in`: hosts that are set up like hosts that people have used for years.

Each habit is something that people or their hosters do to a host before the house is deployed. Each has a name, so that
it can be tried alone or left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.topology import OUTSIDERS, TOPOLOGIES, Host, Lab

#: Packages in addition to those of a fresh host.
PACKAGES = ("locales", "chrony", "fish", "systemd-resolved")
#: Debian's minimal root has no translations. These are added, because the habit `german` needs German messages.
INCLUDED = ("/usr/share/locale/de/*",)
#: Commands that run when the packed root, `$1`, is made. They make the accounts, and the locale, which takes seconds.
#: They disable services; the habit that needs a service enables it.
HOOKS = (
    'chroot "$1" useradd --create-home --shell /bin/bash admin',
    'chroot "$1" useradd --create-home --shell /usr/bin/fish berta',
    'chroot "$1" localedef --inputfile=de_DE --charmap=UTF-8 de_DE.UTF-8',
    'chroot "$1" systemctl disable chrony.service systemd-resolved.service',
)
SSH_PORT = 2222
#: An address for documentation (RFC 5737, TEST-NET-1), at which nothing answers.
DEAD_PROXY = "http://192.0.2.9:3128"
#: Name of a host in the inventory -> the name that the host has itself.
HOST_NAMES = {"home": "optiplex", "hub": "optiplex", "gate": "nuc", "brain": "tower", "laptop": "debian", "desk": "pc"}

SSHD = "etc/ssh/sshd_config.d/20-lived-in.conf"
SYSTEM = "etc/systemd/system"
NETWORK = "etc/systemd/network/10-lab.network"

HOSTS_UNIT = """\
[Unit]
Description=Stands for cloud-init with manage_etc_hosts: writes /etc/hosts anew at each boot
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target sysinit.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/cp --no-preserve=mode,timestamps /etc/cloud/templates/hosts.debian.tmpl /etc/hosts
"""

#: Texts and links of one host, like those of lab.guest.Guest.
Texts = dict[str, tuple[str, int]]
Links = dict[str, str]


@dataclass(frozen=True)
class Way:
    """How a person logs in over SSH. `jump` is the jump host, or ""."""

    user: str
    port: int = 22
    jump: str = ""


def lives(lab: Lab, host: Host, habit: str) -> bool:
    """Whether a host has a habit. `stranger`, `internet` and `phone` have none: they do not belong to the house."""
    house = TOPOLOGIES[lab.topology]
    if habit not in lab.habits or host.name not in house:
        return False
    match WHERE.get(habit, "all"):
        case "server":
            return host.name == house[0]
        case "laptop":
            return host.name == "laptop"
        case _:
            return True


def way(lab: Lab, host: Host) -> Way:
    """How the controller logs in on a host of this lab."""
    person = "berta" if lives(lab, host, "fish") else "admin"
    user = person if lives(lab, host, "admin") else "root"
    port = SSH_PORT if lives(lab, host, "ssh-port") else 22
    return Way(user, port, OUTSIDERS[0] if lives(lab, host, "jump") else "")


def host_name(lab: Lab, host: Host) -> str:
    """The name that a host has itself, which may differ from its name in the inventory."""
    return HOST_NAMES[host.name] if lives(lab, host, "host-name") else host.name


def furnish(lab: Lab, host: Host, login: str, proxy: str, texts: Texts, links: Links) -> None:
    """Change the files of a host according to its habits. `login` is the public key that may log in, `proxy` apt's
    proxy."""
    for habit in lab.habits:
        if lives(lab, host, habit):
            more, others = _habit(habit, lab, host, login, proxy)
            texts.update(more)
            links.update(others)
    if lives(lab, host, "admin"):
        del texts["root/.ssh/authorized_keys"]
    if lives(lab, host, "resolved"):
        del texts["etc/resolv.conf"]
    if lives(lab, host, "no-internet"):
        texts[NETWORK] = texts[NETWORK][0].partition("[Route]")[0], 0o644
    if lives(lab, host, "apt-detect"):
        del texts["etc/apt/apt.conf.d/10lab-proxy"]


def _habit(habit: str, lab: Lab, host: Host, login: str, proxy: str) -> tuple[Texts, Links]:
    def text(path: str, content: str, mode: int = 0o644) -> tuple[Texts, Links]:
        return {path: (content, mode)}, {}

    match habit:
        case "admin":
            rules = "Defaults use_pty\nadmin ALL=(ALL) NOPASSWD: ALL\nberta ALL=(ALL) NOPASSWD: ALL\n"
            keys = {f"home/{user}/.ssh/authorized_keys": (login, 0o600) for user in ("admin", "berta")}
            return {**keys, "etc/sudoers.d/admins": (rules, 0o440), SSHD: ("PermitRootLogin no\n", 0o644)}, {}
        case "ssh-port":
            return text(SSHD.replace("20", "21"), f"Port {SSH_PORT}\n")
        case "jump":
            jump = lab.host(OUTSIDERS[0])
            return text(SSHD.replace("20", "22"), f"AllowUsers *@{jump.v4} *@{jump.v6}\n")
        case "small-tmp":
            lines = [f"tmpfs {at} tmpfs size=100m,mode=1777,nosuid,nodev 0 0\n" for at in ("/tmp", "/var/tmp")]
            return text("etc/fstab", "".join(lines))
        case "german":
            return dict.fromkeys(("etc/default/locale", "etc/locale.conf"), ("LANG=de_DE.UTF-8\n", 420)), {}
        case "greeting":
            bash = "echo \"Willkommen! Es ist $(date '+%H:%M:%S.%N').\"\n"
            fish = "echo Willkommen! Es ist (date '+%H:%M:%S.%N').\n"
            texts = {f"{home}/.bashrc": (bash, 0o644) for home in ("root", "home/admin")}
            return {**texts, "home/berta/.config/fish/config.fish": (fish, 0o644)}, {}
        case "hosts-file":
            hosts = f"127.0.1.1 {host_name(lab, host)}\n127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
            unit = f"{SYSTEM}/stand-in-cloud-init.service"
            texts = {unit: (HOSTS_UNIT, 0o644), "etc/cloud/templates/hosts.debian.tmpl": (hosts, 0o644)}
            return texts, {f"{SYSTEM}/sysinit.target.wants/stand-in-cloud-init.service": f"/{unit}"}
        case "host-name":
            return text("etc/hostname", f"{host_name(lab, host)}\n")
        case "resolved":
            unit = "/usr/lib/systemd/system/systemd-resolved.service"
            links = {f"{SYSTEM}/{name}": unit for name in _RESOLVED}
            asks = f"[Network]\nDNS={lab.router.v4}\n"
            return (
                {f"{NETWORK}.d/dns.conf": (asks, 0o644)},
                {**links, "etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf"},
            )
        case "dead-proxy":
            lines = [f"{name}={DEAD_PROXY}" for name in ("http_proxy", "https_proxy")]
            return text("etc/environment", "\n".join([*lines, "no_proxy=localhost,127.0.0.1"]) + "\n")
        case "apt-detect":
            found = "usr/local/bin/apt-proxy-detect"
            setting = f'Acquire::http::Proxy-Auto-Detect "/{found}";\n'
            return {
                found: (f"#!/bin/sh\necho {proxy}\n", 0o755),
                "etc/apt/apt.conf.d/30detectproxy": (setting, 0o644),
            }, {}
        case "chrony":
            # All hosts have the machine's clock. With -x chronyd does not set it. Its unit would not start without the
            # right to set the clock, so that condition is removed.
            return (
                {
                    "etc/default/chrony": ('DAEMON_OPTS="-F 1 -x"\n', 0o644),
                    f"{SYSTEM}/chrony.service.d/lab.conf": ("[Unit]\nConditionCapability=\n", 0o644),
                },
                {f"{SYSTEM}/multi-user.target.wants/chrony.service": "/usr/lib/systemd/system/chrony.service"},
            )
        case "umask":
            # pam_umask(8) reads this file. Debian calls it for each session.
            return text("etc/default/login", "UMASK=077\n")
        case _:  # these habits change no files here: host names, login shells and the router are handled elsewhere
            return {}, {}


_RESOLVED = ("sysinit.target.wants/systemd-resolved.service", "dbus-org.freedesktop.resolve1.service")

#: Habits that only one host of the house has: the first server, or the laptop.
WHERE: Mapping[str, str] = {
    "ssh-port": "server",
    "chrony": "server",
    "jump": "laptop",
    "resolved": "laptop",
    "fish": "laptop",
}
