"""If a program of somebody else is in the way, the run stops before any change and leaves it unchanged. The hosts are
bare."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from artifacts.store import find_program
from tests.lab import neighbours
from tests.lab.conftest import TestLab
from tests.lab.test_bare import refused

#: A command that prints everything that the house could change, with owners, modes and times. Units of the type `scope`
#: are left out: a session of SSH that has ended is one for a moment longer.
SNAPSHOT = (
    "find /etc /opt /usr/local /usr/lib/systemd /usr/share/ollama /var/lib/headscale /var/lib/openclaw /var/lib/ollama "
    "/var/lib/tailscale/tailscaled.state -xdev -printf '%p %y %u %g %m %T@\\n' 2>/dev/null | sort; getent passwd; "
    "getent group; nft --handle --stateless list ruleset; systemctl list-units --no-legend --plain --state=active "
    "--type=service,socket,target,device,mount,automount,swap,timer,path,slice"
)
UFW = """\
table ip filter {
	chain ufw-user-input {
		tcp dport 22 counter accept
	}
	chain INPUT {
		type filter hook input priority filter; policy drop;
		iifname "lo" counter accept
		ct state related,established counter accept
		ip protocol icmp icmp type echo-request counter accept
		fib daddr type broadcast counter drop
		counter jump ufw-user-input
	}
}
"""
MINE = """\
table inet mine {
	chain in {
		type filter hook input priority filter; policy accept;
		ct state vmap { established : accept, related : accept, invalid : drop }
		iifname "lo" accept
		tcp dport { 22, 8000-8010 } accept
		reject with icmpx admin-prohibited
	}
}
"""
#: The rules that Docker 26.1.5 has made for a container whose port 80 is published as 8080.
DOCKER = (Path(__file__).parents[1] / "unit/recorded/docker.txt").read_text()
OLLAMA = """\
[Unit]
Description=Ollama Service
[Service]
ExecStart=/usr/local/bin/ollama serve
User=ollama
Group=ollama
[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class Case:
    """Something on a host that is refused. `made` and `gone` are shell commands that make and remove it. `said` are
    words of the message."""

    host: str
    made: str
    gone: str
    said: tuple[str, ...]


def listening(port: int) -> str:
    code = f"import socket,time;s=socket.create_server(('0.0.0.0',{port}));time.sleep(600)"
    return f'systemd-run --quiet --unit=web python3 -c "{code}"; sleep 0.5'


def rules(text: str) -> str:
    return f"nft -f - <<'E'\n{text}E"


INSTALLED_OLLAMA = (
    "useradd -r -s /bin/false -U -m -d /usr/share/ollama ollama; mkdir -p /usr/local/lib/ollama; "
    "printf '#!/bin/sh\\nexec sleep 600\\n' > /usr/local/bin/ollama; chmod 0755 /usr/local/bin/ollama; "
    f"cat > /etc/systemd/system/ollama.service <<'E'\n{OLLAMA}E\n"
    "systemctl daemon-reload; systemctl enable --now --quiet ollama"
)
CASES = {
    "a program on another port": Case(
        "laptop",
        listening(80),
        "systemctl stop web",
        ("host laptop: python3 (web.service)", "80/tcp", "'to': 'clients'", "'firewall_shut_off': ['80/tcp']"),
    ),
    "an account of a person": Case(
        "home",
        "useradd --create-home --shell /bin/bash openclaw",
        "userdel --remove openclaw 2>/dev/null",
        ("host home: account openclaw", "home /home/openclaw, shell /bin/bash", "usermod --login NEW openclaw"),
    ),
    "a group without its account": Case(
        "home", "groupadd ollama", "groupdel ollama", ("host home: group ollama", "groupdel ollama")
    ),
    "a Headscale of one's own": Case(
        "home",
        "mkdir /etc/headscale /var/lib/headscale; touch /etc/headscale/config.yaml /var/lib/headscale/db.sqlite",
        "rm -r /etc/headscale /var/lib/headscale",
        ("host home: Headscale", "/etc/headscale", "/var/lib/headscale", "coordinator to another host"),
    ),
    "ufw that knows SSH alone": Case(
        "laptop",
        rules(UFW),
        "nft delete table ip filter",
        ("host laptop: ufw", "41641/udp (wireguard)", "on the host: ufw allow 41641/udp"),
    ),
    "rules of one's own": Case(
        "home",
        rules(MINE),
        "nft delete table inet mine",
        ("host home: table inet mine", "443/tcp (headscale)", "18789/tcp over tailscale0 (openclaw)", "to chain in of"),
    ),
    "a published port": Case(
        "home",
        rules(DOCKER),
        "nft delete table ip nat; nft delete table ip filter",
        ("host home: port 8080/tcp", "passed on to 172.17.0.2:80 by Docker", "127.0.0.1", "'port': '8080/tcp'"),
    ),
}


@pytest.fixture(scope="module")
def bare(single: TestLab) -> Iterator[TestLab]:
    """The bare lab, with the program nft, which the base would install anyway."""
    for host in single.hosts:
        single.ssh(host, neighbours.install("nftables"))
    yield single


def refused_and_untouched(lab: TestLab, host: str, said: tuple[str, ...]) -> None:
    before = lab.ssh(host, SNAPSHOT)
    refused(lab, said)
    assert lab.ssh(host, SNAPSHOT) == before


@pytest.mark.parametrize("name", CASES)
def test_what_is_somebody_elses_is_refused(bare: TestLab, name: str) -> None:
    case = CASES[name]
    bare.ssh(case.host, case.made)
    try:
        refused_and_untouched(bare, case.host, case.said)
    finally:
        bare.ssh(case.host, case.gone)


def test_a_tailscale_of_ones_own_is_refused_with_its_control_server(bare: TestLab) -> None:
    program = find_program("tailscale", "amd64")
    assert program is not None
    for name, path in (("tailscale", "/usr/bin/tailscale"), ("tailscaled", "/usr/sbin/tailscaled")):
        here = str(program.directory / "bin" / name)
        done = bare.run("scp", "-q", "-F", f".lab/{bare.name}/ssh_config", here, f"laptop:{path}")
        assert done.returncode == 0, done.stderr
    # Tailscale's own package has this unit and this file.
    unit = (
        "[Service]\nExecStart=/usr/sbin/tailscaled --port=41641\nRuntimeDirectory=tailscale\nStateDirectory=tailscale\n"
    )
    bare.ssh(
        "laptop",
        f"printf {unit!r} > /usr/lib/systemd/system/tailscaled.service; echo PORT=41641 > /etc/default/tailscaled; "
        "systemctl daemon-reload; systemctl start tailscaled; sleep 1; "
        "timeout 2 tailscale login --login-server https://control.example:8443 >/dev/null 2>&1; true",
    )
    said = ("host laptop: Tailscale", "https://control.example:8443", "/var/lib/tailscale", "/etc/default/tailscaled")
    try:
        refused_and_untouched(bare, "laptop", (*said, "/usr/lib/systemd/system/tailscaled.service", "tailscale logout"))
    finally:
        bare.ssh(
            "laptop",
            "systemctl stop tailscaled; rm -r /usr/lib/systemd/system/tailscaled.service /etc/default/tailscaled "
            "/usr/bin/tailscale /usr/sbin/tailscaled /var/lib/tailscale; systemctl daemon-reload; "
            'for t in $(nft list tables | sed \'s/^table //; s/ /:/\'); do nft delete table "${t%:*}" "${t#*:}"; done',
        )


def test_an_ollama_of_the_install_script_is_handed_over_by_the_commands_of_the_message(bare: TestLab) -> None:
    bare.ssh("home", INSTALLED_OLLAMA)
    try:
        refused_and_untouched(
            bare, "home", ("host home: Ollama", "/etc/systemd/system/ollama.service", "host home: account ollama")
        )
        assert bare.ssh("home", "systemctl is-active ollama") == "active"
        output = " ".join(bare.pyinfra().stderr.split())
        found = re.search(r"To hand it over: (.*?)\. Its models", output)
        assert found is not None, output
        bare.ssh("home", f"set -e; {found[1]}")
        found = re.search(r"if nobody needs it: (userdel \w+)", output)
        assert found is not None, output
        bare.ssh("home", found[1])
        assert plan(bare).returncode == 0
    finally:
        bare.ssh(
            "home",
            "systemctl disable --now ollama; userdel ollama; rm -rf /etc/systemd/system/ollama.service "
            "/usr/share/ollama /usr/local/bin/ollama /usr/local/lib/ollama; systemctl daemon-reload",
            check=False,
        )


def test_a_program_that_its_owner_gives_up_is_no_obstacle(bare: TestLab) -> None:
    bare.ssh("laptop", listening(80))
    try:
        assert plan(bare).returncode != 0
        done = plan(bare, "--data", 'firewall_shut_off=["80/tcp"]')
        assert done.returncode == 0, done.stderr
    finally:
        bare.ssh("laptop", "systemctl stop web")


def plan(lab: TestLab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A dry run."""
    return lab.run(".venv/bin/pyinfra", lab.inventory, "deploy.py", "--dry", *arguments)
