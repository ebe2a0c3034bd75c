"""Reads the state of a host with one script that prints named sections, and gives access to them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facts.base.profile import SCRIPT as PROFILE
from facts.base.profile import parse_profile
from facts.ca import CertificateState
from facts.engine.component_state import STAMPS, through_manager
from plan.backup.places import ARCHIVES, KEPT_AT, SERVICE, TIMER, WORK
from plan.backup.schedule import ON
from plan.base.profile import Listener, Profile
from plan.devices.vpn_nodes import RECORD as DEVICES
from plan.devices.vpn_nodes import node_of
from plan.engine.errors import STRANGE
from plan.engine.ip_addresses import node_addresses
from plan.firewall.rules import TABLE, service_egress
from plan.house.house import House, Member
from plan.ollama.recorded_choice import RECORD
from plan.openclaw.configuration import IMAGE_RECORD
from plan.verification import unit_accounts

END = "--8<--"
STORE = "/var/lib/ollama/models"
ACCOUNT = "openclaw"
#: The most seconds for one question to a host, and for all questions about its state.
PART_SECONDS, STATE_SECONDS = 30, 180
#: The beginning of a command that runs as the gateway's account, in the account's systemd manager.
AS_ACCOUNT = through_manager(ACCOUNT, "").rstrip()
#: The commands that print what the control server has told a node, and which nodes the control server knows.
NETMAP, NODES = "tailscale debug netmap", "headscale nodes list -o json"
#: Seconds in which nodes connect again to a control server that was restarted. They try at least every half minute.
NEW_SECONDS = 60
#: Program -> path of its link on a host. The link's target has the version, and a digest of the content.
PROGRAMS = {
    "tailscale": "/usr/local/sbin/tailscaled",
    "headscale": "/usr/local/bin/headscale",
    "ollama": "/usr/local/bin/ollama",
}


@dataclass(frozen=True)
class Section:
    """Exit status and output of one command."""

    status: int
    text: str

    def json(self) -> Any:
        """The output as JSON; None when it is not JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


@dataclass(frozen=True)
class HostState:
    """The sections of one host by name, and its profile (plan/base/profile.py)."""

    sections: Mapping[str, Section]
    profile: Profile

    def __getitem__(self, name: str) -> Section:
        return self.sections.get(name) or Section(1, "this part of the host's answer is missing")

    @property
    def listeners(self) -> tuple[Listener, ...]:
        return self.profile.listeners

    @property
    def vpn(self) -> tuple[str, ...]:
        """The host's addresses in the VPN, IPv4 first; empty when the host has not joined."""
        try:
            return node_addresses(self["tailscale"].json()["TailscaleIPs"])
        except STRANGE:
            return ()  # the answer cannot be read; then the checks fail, because the host has no address in the VPN

    def environment(self, unit: str) -> dict[str, str]:
        """The environment of a unit's running process; empty when the unit does not run."""
        return dict(line.split("=", 1) for line in self[f"environment {unit}"].text.splitlines() if "=" in line)


#: A sed script that prints the TCP ports of Headscale from ss's output.
HEADSCALE_PORTS = r"s/^.*:\([0-9]*\) .*((\"headscale\",.*$/\1/p"


def authority_path(house: House) -> str:
    """The path of the CA's certificate on a host."""
    return f"/usr/local/share/ca-certificates/private-ai-{house.name}.crt"


def script(house: House, member: Member) -> str:
    """The script with the commands for a host's roles. They only read."""
    parts = {
        "profile": PROFILE,
        "firewall": f"nft -j list table inet {TABLE}",
        "tailscale": "tailscale status --json --peers=false",
        "netmap": NETMAP,
        "preferences": "tailscale debug prefs",
        "relays": "tailscale debug derp-map",
        "environment tailscaled": _environment("tailscaled"),
        "root": f"cat {authority_path(house)}",
        "trusted": "openssl verify -no-CApath -no-CAstore -CAfile /etc/ssl/certs/ca-certificates.crt "
        f"{authority_path(house)}",
        "units": "systemctl show -p Id,FragmentPath,DropInPaths '*.service' '*.socket' '*.timer'",
        "sshd": "sshd -T",
        # Without apt's caches, because apt would write them.
        "updates": "apt-get --simulate -o Debug::NoLocking=1 "
        "-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= upgrade",
        "programs": "readlink " + " ".join(PROGRAMS.values()),
        "serves": "tailscale serve status --json",
        "users": "; ".join(
            f'echo "{unit} $(stat -c %U /proc/$(systemctl show --property=MainPID --value {unit}))"'
            for unit in unit_accounts(member)
        ),
        "accounts": "; ".join(
            # Name, groups, shell, and the first character of the password: "!" or "*" means that there is none.
            f'echo "{name}|$(id -Gn {name})|$(getent passwd {name} | cut -d: -f7)|'
            f'$(getent shadow {name} | cut -d: -f2 | cut -c1)"'
            for name in service_egress(house, member)
        )
        # Clients have no service accounts.
        or "true",
    }
    if member.roles & {"coordinator", "gateway"}:
        parts["backups"] = _backups(house, member)
    if "coordinator" in member.roles:
        parts["nodes"] = NODES
        parts["keys"] = "headscale preauthkeys list -o json"
        parts["api keys"] = "headscale apikeys list -o json"
        parts["headscale file"] = "cat /etc/headscale/config.yaml"
        # When the two files were written last, and when the server was started, in seconds since 1970.
        parts["headscale since"] = (
            "stat -c %Y /etc/headscale/config.yaml /etc/headscale/policy.json && "
            "systemctl show --property=ExecMainStartTimestamp --value --timestamp=unix headscale"
        )
        parts["devices"] = f"cat {DEVICES} || true"
        parts["headscale"] = _debug("config")
        parts["policy file"] = "cat /etc/headscale/policy.json"
        # `headscale policy get` only prints the file. This prints the rules that the server uses now.
        parts["policy served"] = _debug("filter")
        parts["certificate headscale"] = _certificate(house, house.headscale_name, house.port("headscale"))
        parts["renewal headscale"] = _renewal(house, member, "headscale", house.headscale_name)
    if "model_hosts" in member.roles:
        url = f"http://127.0.0.1:{house.port('ollama')}/api"
        parts["models"] = f"curl --disable --silent --fail --max-time 10 {url}/tags"
        parts["loaded"] = f"curl --disable --silent --fail --max-time 10 {url}/ps"
        parts["chosen"] = f"cat {RECORD}"
        parts["environment ollama"] = _environment("ollama")
    if "gateway" in member.roles:
        parts["account"] = f"id -u {ACCOUNT}"
        parts["unit"] = f"systemctl --user --machine={ACCOUNT}@ is-active openclaw.service"
        parts["container"] = f"{AS_ACCOUNT} podman inspect openclaw"
        # What the kernel says about the container's first process.
        parts["process"] = (
            f"pid=$({AS_ACCOUNT} podman inspect --format '{{{{.State.Pid}}}}' openclaw) && "
            "cat /proc/$pid/status && grep ' / / ' /proc/$pid/mountinfo && "
            "cd /sys/fs/cgroup$(sed -n s/^0:://p /proc/$pid/cgroup) && grep -H . memory.max pids.max"
        )
        parts["containers"] = f"{AS_ACCOUNT} podman ps --all --format '{{{{.Names}}}}'"
        parts["image"] = f"cat {IMAGE_RECORD}"
        parts["routers"] = "ip route show default; ip -6 route show default"
        parts["certificate gateway"] = _certificate(house, house.vpn_name(member), house.port("openclaw"))
        parts["renewal gateway"] = _renewal(house, member, ACCOUNT, house.vpn_name(member))
    return sections_script(parts)


def sections_script(parts: Mapping[str, str], seconds: int = PART_SECONDS) -> str:
    """Shell text that prints the output and the exit status of each part. A part that hangs is ended after `seconds`.
    So a program that accepts connections and says nothing does not hide the other results."""
    return "\n".join(
        f"timeout {seconds} sh -c {shlex.quote(command)} </dev/null; "
        f"printf '\\n{END} %s %s\\n' {shlex.quote(name.replace(' ', '_'))} $?"
        for name, command in parts.items()
    )


def _debug(what: str) -> str:
    # The debug port is another one after each start, so this tries all of Headscale's TCP ports. The other ports use
    # other protocols and give no answer to this.
    return (
        f"for port in $(ss -Hltnp | sed -n '{HEADSCALE_PORTS}'); do "
        f"curl --disable --silent --fail --max-time 10 http://127.0.0.1:$port/debug/{what} && exit; done; exit 1"
    )


def _environment(unit: str) -> str:
    # The environment with which the process was started. A file may have changed since.
    return f"tr '\\0' '\\n' < /proc/$(systemctl show -p MainPID --value {unit})/environ"


def _backups(house: House, member: Member) -> str:
    """What a host has of backups: a word in each line, and what it says. Private keys are looked for where people put
    them, in small files, for some seconds at most; their text is not printed."""
    folder = f"{member.backup_folder}/{ON}{member.name}"
    places = f"/root /home /etc /srv /var/lib/private-ai {member.backup_folder}"
    shown = f"systemctl show -p Id,ActiveState,UnitFileState {TIMER} {SERVICE}"
    key = 'find "$@" -xdev -type f -size -64 -exec grep -lsE "^AGE-SECRET-KEY-1" {} +'
    return "; ".join(
        [
            f"find {WORK} {ARCHIVES} -mindepth 1 2>/dev/null | sed 's/^/left /'",
            f"{shown} | tr '\\n' ' ' | sed 's/^/units /'; echo",
            f"timeout 15 sh -c '{key}' - {places} 2>/dev/null | sed 's/^/key /'",
            f"cat {KEPT_AT} 2>/dev/null | sed 's/^/made /'; stat -c 'begun %Y' {STAMPS}/{TIMER} 2>/dev/null",
            f"cd {folder} 2>/dev/null && newest=$(ls -d {house.name}-*T*Z 2>/dev/null | tail -n 1)",
            'test -n "$newest" && cd "$newest" && echo "newest $newest"',
            f"head -n 1 host-{member.name}.age | tr -cd '[:print:]' | cut -c 1-80 | sed 's/^/begins /'",
            f"sha256sum <host-{member.name}.age | sed 's/^/sha256 /'",
            "tr -d '\\n' <manifest.json | sed 's/^/manifest /'; echo",
        ]
    )


def _certificate(house: House, name: str, port: int) -> str:
    """A command that makes a TLS handshake with a local port, trusts only the house's CA, and prints the
    certificate."""
    return (
        f"said=$(openssl s_client -connect 127.0.0.1:{port} -servername {name} -verify_hostname {name} "
        f"-CAfile {authority_path(house)} -no-CApath -no-CAstore 2>&1); "
        # The exit status is 1 also when the server closes the connection first. So only the printed return code counts.
        'printf "%s\\n" "$said" | grep -i -E "verify return code|errno" | sed "s/^ *//" | sort -u; '
        'printf "%s\\n" "$said" | openssl x509 -noout -enddate -subject -issuer 2>/dev/null'
    )


def _renewal(house: House, member: Member, owner: str, name: str) -> str:
    """The deployment's own question whether a certificate, and its successor where it has one, is good."""
    folder = f"/etc/{owner}/tls"
    return CertificateState().command(
        f"{folder}/cert.pem",
        f"{folder}/key.pem",
        owner,
        f"DNS:{name}",
        authority_path(house),
        successor="coordinator" not in member.roles,
    )


def parse_state(text: str, sent: float, received: float) -> HostState:
    """The state from a script's output. `sent`, `received`: the controller's time before and after the script. A
    section that was cut off is missing.

    Raises pyinfra's FactProcessError when the host's profile cannot be read.
    """
    sections = parse_sections(text)
    return HostState(
        sections, parse_profile(sections.get("profile", Section(1, "")).text.splitlines(), sent=sent, received=received)
    )


def parse_sections(text: str) -> dict[str, Section]:
    """The sections of a script's output. A section that was cut off is missing."""
    found: dict[str, Section] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if end := re.fullmatch(rf"{END} (\S+) ([0-9]{{1,3}})", line, re.ASCII):
            found[end[1].replace("_", " ")] = Section(int(end[2]), "\n".join(lines).strip())
            lines = []
        else:
            lines.append(line)
    return found


def hears_control(nodes: Section, vpn: Collection[str]) -> bool | None:
    """Whether the control server has a connection to the node with these addresses; None when it knows no such node.

    `nodes`: the output of `headscale nodes list -o json`.
    """
    try:
        found = [node_of(each) for each in nodes.json() or ()]
    except STRANGE:
        return None
    return next((node.online for node in found if set(node.addresses) & set(vpn)), None)


def started_lately(coordinator: HostState) -> bool:
    """Whether the control server was started so recently that nodes may not be connected again yet."""
    started = coordinator["headscale since"].text.rpartition("@")[2].strip()
    return started.isdigit() and coordinator.profile.clock - int(started) < NEW_SECONDS


def curl_config(settings: Sequence[tuple[str, str]]) -> str:
    """A configuration file for curl (`curl --config -`). Values may have all characters except 0."""
    lines = []
    for name, value in settings:
        quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        lines.append(f'{name} = "{quoted}"')
    return "\n".join(lines) + "\n"
