"""Reads a host's profile with one remote command. The command changes nothing and needs no further package."""

from __future__ import annotations

import ipaddress
import math
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from typing import Literal

from pyinfra.api.exceptions import FactProcessError
from pyinfra.api.facts import FactBase
from typing_extensions import override

from facts.base import capabilities, writable_folders
from facts.other_programs import kernel_connections
from facts.other_programs.found_places import SECTIONS, parse_beside
from plan.backup.restoring import RESTORED
from plan.base.profile import LAST_RUN, Listener, Profile
from plan.engine.errors import AGAIN, STRANGE, shown
from plan.engine.ip_addresses import address
from plan.engine.stamp import PATH as STAMP
from plan.engine.want import Block
from plan.firewall.rules import TAKEN_BACK, TRIED, UNCONFIRMED
from plan.upgrade.notes import FOLDER, UNIT, as_left, parse_notes
from plan.upgrade.versions import INSTALLED, parse_installed

#: The house's own lines in /etc/hosts.
CONTROL_NAMES = Block("/etc/hosts", "names", ())

#: Prints both ends of the SSH connection over which a command came. sudo removes the variable SSH_CONNECTION, so this
#: reads it from the nearest parent process that has it.
CAME_BY = r"""c=$SSH_CONNECTION; [ -n "$c" ] && echo "$c"; p=$$; while [ -z "$c" ] && [ "${p:-0}" -gt 1 ]; do
c=$(tr '\0' '\n' <"/proc/$p/environ" | sed -n 's/^SSH_CONNECTION=//p'); [ -n "$c" ] && echo "$c"
p=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$p/status"); done"""
# Runs under dash on Debian 13 with systemd, openssh-server, python3-minimal, iproute2 and procps. If a tool is missing,
# its section is empty (only `listeners` is left out), and the parser decides what is needed.
# listeners: ss looks for the programs before it lists the sockets, so a new socket may have no program. Then the script
# calls ss once more.
# groups, sockets: the control group of a process shows its unit. systemd's own sockets are in `list-sockets`.
# mirrors: read from their files, because 'apt-get indextargets' writes apt's cache.
SCRIPT = (
    r"""{
LC_ALL=C; export LC_ALL
s() { echo "@@ $1"; }
f() { [ -e "$1" ] && while read -r l || [ -n "$l" ]; do printf '%s\n' "$l"; done <"$1"; }
s clock; date +%s.%N
s uid; id -u
s hostname; f /proc/sys/kernel/hostname
s os; f /etc/os-release
s machine; uname -m
s kernel; f /proc/sys/kernel/osrelease
s cpus; nproc
s init; f /proc/1/comm
s systemd; systemctl --version | { read -r l; echo "$l"; }
s cgroup; f /sys/fs/cgroup/cgroup.controllers
s addresses; ip -o addr show
s routes; ip -4 route show default; ip -6 route show default
l=$(ss -H -tulnp) && case $(printf '%s\n' "$l" | grep -v users:) in
?*) sleep 0.3; l=$(ss -H -tulnp) ;; esac && { s listeners; printf '%s\n' "$l"; }
p=$(printf '%s\n' "$l" | grep -o 'pid=[0-9]*' | sort -u | sed 's,pid=\(.*\),/proc/\1/cgroup /proc/\1/status,')
s groups; grep -HE '^(0::|Uid:)' $p /dev/null | sed -e 's,^/proc/\([0-9]*\)/cgroup:0::,\1 ,' \
-e 's,^/proc/\([0-9]*\)/status:Uid:[[:space:]]*[0-9]*[[:space:]]*\([0-9]*\).*,account \1 \2,'
s sockets; systemctl list-sockets --no-legend --no-pager --full
s proxy; a=$(apt-config dump); printf '%s\n' "$a" | grep -E '^Acquire::[a-z]+::Proxy[ :]|^APT::Sandbox::User '
d=$(printf '%s\n' "$a" | sed -n 's/^Acquire::http::Proxy-\{0,1\}Auto-\{0,1\}Detect "\(.*\)";$/\1/p')
s detected; [ -n "$d" ] && timeout 5 "$d" http://deb.debian.org/
s mirrors; cd /etc/apt && grep -hsE '^(deb|URIs:|https?:)' sources.list sources.list.d/* mirrors/*.list
s ssh; CAME_BY
s control-server; grep -s -A 9 "^$NAMES" /etc/hosts
s reboot; [ -e /run/reboot-required ] && echo yes
s firewall-tried; [ -e TRIED ] && echo yes
s firewall-unconfirmed; f UNCONFIRMED
s firewall-taken-back; f TAKEN_BACK
s last-run; f LAST_RUN
s restored; f RESTORED
s stamp; [ "$(stat -c '%F %u %a' STAMP)" = 'regular file 0 644' ] && head -c 4096 STAMP; echo
s programs; INSTALLED
s upgrades; for n in NOTES; do [ -e "$n" ] || continue; f "$n"; u=${n%/note}
u=${u##*/}
systemctl is-active "AT_WORK-$u" "AT_WORK-boot-$u" | grep -qx 'active\|activating' && echo at work; done
""".replace("TRIED", TRIED)
    .replace("$NAMES", CONTROL_NAMES.begin)
    .replace("UNCONFIRMED", UNCONFIRMED)
    .replace("TAKEN_BACK", TAKEN_BACK)
    .replace("LAST_RUN", LAST_RUN)
    .replace("RESTORED", RESTORED)
    .replace("CAME_BY", CAME_BY)
    .replace("STAMP", STAMP)
    .replace("INSTALLED", INSTALLED)
    .replace("NOTES", f"{FOLDER}/*/note")
    .replace("AT_WORK", UNIT)
    + capabilities.SECTIONS
    + writable_folders.SECTIONS
    + SECTIONS
    + kernel_connections.SECTIONS
    + """s clock-end; date +%s.%N
s end
} 2>/dev/null"""
)

_CPU = {"x86_64": "amd64", "aarch64": "arm64"}
# Matches only whole entries of ss. A program chooses its own name (15 bytes), and could put a false "pid=" into it.
_HOLDERS = re.compile(r'\("(.{1,15}?)",pid=(\d+),fd=\d+\)(?=,\("|\)$)')
_UNIT = re.compile(r"[^/]+\.(?:service|socket|scope|slice)(?=/|$)")


class HostProfile(FactBase[Profile]):
    """The Profile of a host. It must run as root (sudo is enough). Cost: one remote command of less than a second.

    Raises FactProcessError, which names what was missing or could not be read, and removes the host from the run.
    """

    _sent = 0.0

    @override
    def command(self) -> str:
        self._sent = time.time()
        return SCRIPT

    @override
    def process(self, output: list[str]) -> Profile:
        return parse_profile(output, sent=self._sent, received=time.time())


def parse_profile(output: list[str], *, sent: float, received: float) -> Profile:
    """The Profile from SCRIPT's output. `sent`, `received`: the controller's time before and after the command.

    Raises FactProcessError when the output was cut off, does not come from root, or lacks something.
    """
    sections = _sections(output)
    try:
        if _line(sections, "uid") != "0":
            raise FactProcessError("host profile: must be read as root. Next: connect as root, or add '_sudo': True")
        clock = (float(_line(sections, "clock")) + float(_line(sections, "clock-end"))) / 2
        if not math.isfinite(clock):
            raise ValueError("the clock is no number")
        os_release = dict(_assignments(sections["os"]))
        systemd = re.match(r"systemd (\d+)", " ".join(sections["systemd"]))
        gpus, vram_mib = capabilities.cards(sections)
        upgrades = parse_notes(sections["upgrades"])
        cpu = _line(sections, "machine")
        return Profile(
            hostname=_line(sections, "hostname"),
            os_id=os_release["ID"],
            os_version_id=os_release.get("VERSION_ID", ""),
            os_pretty=os_release.get("PRETTY_NAME", os_release["ID"]),
            cpu=_CPU.get(cpu, cpu),
            cpus=int(_line(sections, "cpus")),
            ram_mib=capabilities.ram_mib(sections),
            clock=clock,
            clock_skew_s=clock - (sent + received) / 2,
            systemd=_line(sections, "init") == "systemd",
            systemd_version=int(systemd[1]) if systemd else 0,
            cgroup_controllers=frozenset(" ".join(sections["cgroup"]).split()),
            kernel=_line(sections, "kernel"),
            addresses=tuple(_addresses(sections["addresses"])),
            default_routes=tuple(_default_routes(sections["routes"])),
            listeners=tuple(_listeners(sections)),
            gpus=gpus,
            vram_mib=vram_mib,
            apt_proxies=tuple(dict.fromkeys([*_proxies(sections["proxy"]), *_detected(sections["detected"])])),
            apt_user=_apt_user(sections["proxy"]),
            apt_mirrors=tuple(dict.fromkeys(_mirrors(sections["mirrors"]))),
            ssh_client=sections["ssh"][0].split()[0] if sections["ssh"] else "",
            ssh_port=int(sections["ssh"][0].split()[3]) if sections["ssh"] else 0,
            machine_id=sections["machine-id"][0] if sections["machine-id"] else "",
            control_server=tuple(_named(sections["control-server"])),
            reboot_required=bool(sections["reboot"]),
            firewall_tried=bool(sections["firewall-tried"]),
            firewall_unconfirmed=" ".join(sections["firewall-unconfirmed"]),
            firewall_taken_back=" ".join(sections["firewall-taken-back"]),
            last_run="\n".join(sections["last-run"]),
            restored="\n".join(sections["restored"]),
            stamp="\n".join(sections["stamp"]),
            machine=capabilities.parse_machine(sections),
            storage=writable_folders.parse_storage(sections, capabilities.targets(sections["disk"])),
            beside=parse_beside(sections),
            installed=as_left(parse_installed(sections["programs"]), upgrades),
            upgrades=upgrades,
            outgoing=kernel_connections.parse_outgoing(sections),
        )
    except KeyError as error:
        raise FactProcessError(
            f"host profile: {error.args[0]!r} is missing from the output. {capabilities.TOOLS}"
        ) from error
    except STRANGE as error:
        raise FactProcessError(f"host profile: cannot be read: {shown(error)}. {AGAIN}") from error


def _sections(output: list[str]) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output:
        if line.startswith("@@ "):
            lines = sections.setdefault(line[3:].strip(), [])
        elif line.strip():
            lines.append(line.strip())
    if "end" not in sections:
        last = next(reversed(sections), "nothing")
        raise FactProcessError(f"host profile: output was cut off after {last!r}. {AGAIN}")
    return sections


def _line(sections: Mapping[str, list[str]], name: str) -> str:
    """The first line of a section. Raises KeyError with the section's name when the section is empty."""
    if not sections[name]:
        raise KeyError(name)
    return sections[name][0]


def _assignments(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            yield name, "".join(shlex.split(value))


def _addresses(lines: list[str]) -> Iterator[tuple[str, str]]:
    """From `2: eth0    inet 192.0.2.2/24 brd ...`. An address without a prefix (point to point) gets /32 or /128."""
    for line in lines:
        _, interface, family, address, *_ = line.split()
        if family in ("inet", "inet6"):
            yield interface.partition("@")[0], str(ipaddress.ip_interface(address))


def _default_routes(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        words = line.split()
        if "dev" in words:
            via = words[words.index("via") + 1] if "via" in words else ""
            yield words[words.index("dev") + 1], via


def _listeners(sections: Mapping[str, list[str]]) -> Iterator[Listener]:
    """From `tcp LISTEN 0 128 127.0.0.53%lo:53 0.0.0.0:* users:(("name",pid=1,fd=3))`."""
    groups = dict(line.split(maxsplit=1) for line in sections["groups"] if " " in line)
    # The account is the second number of Uid in /proc/PID/status, the effective user (proc_pid_status(5)).
    told = (line.split() for line in sections["groups"])
    accounts = {words[1]: int(words[2]) for words in told if words[0] == "account" and len(words) == 3}
    # For a socket that systemd (process 1) holds, we do not know the account of the program that systemd will start.
    accounts.pop("1", None)
    sockets = {}
    for line in sections["sockets"]:
        words = line.split()
        unit = next((word for word in words if word.endswith(".socket")), None)
        if unit:
            sockets[words[0]] = unit
    for line in sections["listeners"]:
        words = line.split(maxsplit=6)
        proto: Literal["tcp", "udp"] = "tcp" if words[0] == "tcp" else "udp"
        host, _, port = words[4].rpartition(":")
        at = host.partition("%")[0].strip("[]")
        users = _HOLDERS.findall(words[6]) if len(words) > 6 else []
        # systemd keeps a socket open after it has passed it on, so another process that has it comes first.
        process, pid = max(users, key=lambda user: user[1] != "1", default=("", ""))
        if pid == "1":
            # systemd writes [::]:22 where ss writes *:22.
            unit = sockets.get(words[4].replace("*:", "[::]:"), "")
        else:
            unit = next(reversed(_UNIT.findall(groups.get(pid, ""))), "")
        yield Listener(proto, at if at == "*" else str(address(at)), int(port), process, unit, accounts.get(pid))


def _named(lines: list[str]) -> Iterator[str]:
    """The addresses in the house's block of /etc/hosts. The lines after the block are ignored."""
    for line in lines:
        if line == CONTROL_NAMES.end:
            return
        if not line.startswith("#"):
            yield line.split()[0]


def _proxies(lines: list[str]) -> Iterator[str]:
    for line in lines:
        found = re.fullmatch(r'Acquire::\S+ "(.+)";', line)
        if found and found[1] != "DIRECT":
            yield found[1]


def _detected(lines: list[str]) -> Iterator[str]:
    """The proxies that apt's helper program finds. By apt.conf(5) it prints one URL or DIRECT; some helpers print
    "http://a,http://b"."""
    for line in lines[:1]:
        yield from (url for url in line.split(",") if re.match("https?://", url))


def _apt_user(lines: list[str]) -> str:
    found = (re.fullmatch(r'APT::Sandbox::User "(.*)";', line) for line in lines)
    return next((match[1] for match in found if match), "_apt") or "root"


def _mirrors(lines: list[str]) -> Iterator[str]:
    """From `deb [options] URL suite ...`, `URIs: URL ...` and lists of mirrors. Disabled sources are included."""
    for line in lines:
        words = re.sub(r"\[.*?\]", "", line).split()
        urls = words[1:] if words[0] == "URIs:" else words[1:2] if words[0].startswith("deb") else words[:1]
        yield from (url for url in urls if re.match(r"(https?|file):", url))
