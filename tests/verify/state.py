"""What a host says of itself: one script of named sections per host, and its parts."""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plan.firewall import TABLE
from plan.house import House, Member
from plan.profile import Listener

END = "--8<--"
STORE = "/var/lib/ollama/models"
ACCOUNT = "openclaw"
#: How a command is run as the gateway's account, in its own systemd manager.
AS_ACCOUNT = f"systemd-run --quiet --user --machine={ACCOUNT}@ --pipe --wait --collect"


@dataclass(frozen=True)
class Section:
    """Exit status and output of one command."""

    status: int
    text: str

    def json(self) -> Any:
        """The output as JSON; None when it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


@dataclass(frozen=True)
class HostState:
    """The sections of one host by name."""

    sections: Mapping[str, Section]

    def __getitem__(self, name: str) -> Section:
        return self.sections[name]

    @property
    def listeners(self) -> tuple[Listener, ...]:
        return parse_listeners(self["sockets"].text)

    @property
    def vpn(self) -> tuple[str, ...]:
        """Addresses in the VPN, IPv4 first; none while the host is not joined."""
        status = self["tailscale"].json() or {}
        return tuple(sorted(status.get("TailscaleIPs") or (), key=lambda address: ":" in address))


def script(house: House, member: Member) -> str:
    """The commands that a host's roles call for. They only read."""
    parts = {
        "sockets": "ss -Hltunp",
        "firewall": f"nft -j list table inet {TABLE}",
        "tailscale": "tailscale status --json --peers=false",
        "relays": "tailscale debug derp-map",
    }
    if "coordinator" in member.roles:
        parts["nodes"] = "headscale nodes list -o json"
        parts["certificate headscale"] = _certificate(house, house.headscale_name, house.port("headscale"))
    if "model_hosts" in member.roles:
        url = f"http://127.0.0.1:{house.port('ollama')}/api"
        parts["models"] = f"curl --silent --fail --max-time 10 {url}/tags"
    if "gateway" in member.roles:
        parts["account"] = f"id -u {ACCOUNT}"
        parts["unit"] = f"systemctl --user --machine={ACCOUNT}@ is-active openclaw.service"
        parts["container"] = f"{AS_ACCOUNT} podman inspect openclaw"
        # The kernel's own words about the container's first process.
        parts["process"] = (
            f"pid=$({AS_ACCOUNT} podman inspect --format '{{{{.State.Pid}}}}' openclaw) && "
            "cat /proc/$pid/status && grep ' / / ' /proc/$pid/mountinfo"
        )
        parts["routers"] = "ip route show default; ip -6 route show default"
        parts["certificate gateway"] = _certificate(house, house.vpn_name(member), house.port("openclaw"))
    return "\n".join(
        f"( {command}\n) </dev/null; printf '\\n{END} %s %s\\n' {shlex.quote(name.replace(' ', '_'))} $?"
        for name, command in parts.items()
    )


def _certificate(house: House, name: str, port: int) -> str:
    """Shake hands with a local port, trusting the house's CA alone; say what was presented."""
    authority = f"/usr/local/share/ca-certificates/private-ai-{house.name}.crt"
    return (
        f"said=$(openssl s_client -connect 127.0.0.1:{port} -servername {name} -verify_hostname {name} "
        f"-CAfile {authority} -no-CApath -no-CAstore 2>&1); "
        # The exit status is 1 also when the other side hangs up first; what counts is the verdict.
        'printf "%s\\n" "$said" | grep -i -E "verify return code|errno" | sed "s/^ *//" | sort -u; '
        'printf "%s\\n" "$said" | openssl x509 -noout -enddate -subject -issuer 2>/dev/null'
    )


def parse_sections(text: str) -> HostState:
    """The sections of a script's output. One that is cut short is missing."""
    found: dict[str, Section] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(f"{END} "):
            _, name, status = line.split(" ")
            found[name.replace("_", " ")] = Section(int(status), "\n".join(lines).strip())
            lines = []
        else:
            lines.append(line)
    return HostState(found)


def parse_listeners(text: str) -> tuple[Listener, ...]:
    """The output of `ss -Hltunp`. '*' stands for every address of both families; interface suffixes are dropped."""
    found = []
    for line in text.splitlines():
        fields = line.split(None, 6)
        if len(fields) < 6:
            continue
        address, _, port = fields[4].rpartition(":")
        process = re.search(r'users:\(\("([^"]+)"', fields[6] if len(fields) > 6 else "")
        address = address.partition("%")[0].strip("[]")
        found.append(
            Listener(
                "udp" if fields[0] == "udp" else "tcp",
                address if address == "*" else str(ipaddress.ip_address(address)),
                int(port),
                process[1] if process else "",
                "",
            )
        )
    return tuple(found)


def chain_policy(ruleset: Any, chain: str) -> str:
    """Hook and policy of a chain of our table as `nft -j` prints it, such as "input drop"; "" when there is none."""
    for each in (ruleset or {}).get("nftables", ()):
        found = each.get("chain", {})
        if (found.get("table"), found.get("name")) == (TABLE, chain):
            return f"{found.get('hook')} {found.get('policy')}"
    return ""


def routers(text: str) -> tuple[str, ...]:
    """The routers in the output of `ip route show default`, link-local ones left out."""
    found = re.findall(r"\bvia (\S+)", text)
    return tuple(dict.fromkeys(each for each in found if not ipaddress.ip_address(each).is_link_local))


def status_fields(text: str) -> dict[str, str]:
    """The fields of /proc/PID/status, blanks in values made single."""
    pairs = (line.partition(":") for line in text.splitlines() if re.match(r"\w+:", line))
    return {name: " ".join(value.split()) for name, _, value in pairs}


@dataclass(frozen=True)
class Account:
    """What the model server logged about one prompt, in tokens: all of the prompt, and what it generated."""

    prompt: int
    generated: int


def accounts(log: str) -> list[Account]:
    """The prompts that llama-server's log lines tell of (Ollama 0.32 passes them on to the journal)."""
    prompts = {task: int(tokens) for task, tokens in re.findall(r"task (\d+) \|.*\btask\.n_tokens = (\d+)", log)}
    made = re.findall(r"task (\d+) \|\s+eval time = .*?/\s*(\d+) tokens", log)
    return [Account(prompts[task], int(tokens)) for task, tokens in made if task in prompts]


def curl_config(settings: Sequence[tuple[str, str]]) -> str:
    """A curl configuration file (`curl --config -`); values may hold any text."""
    lines = []
    for name, value in settings:
        quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        lines.append(f'{name} = "{quoted}"')
    return "\n".join(lines) + "\n"
