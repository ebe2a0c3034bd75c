"""Packet filters of other programs, which are loaded on a lab's hosts before the house is deployed."""

from __future__ import annotations

import re

from tests.lab.conftest import TestLab

#: The tables have the form and the names of Docker 26 (without published ports), libvirt 11 and ufw 0.36. They have
#: sets, maps and counters.
TABLES = """\
table ip nat {
	chain DOCKER {
		iifname "docker0" counter return
	}
	chain PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local counter jump DOCKER
	}
	chain POSTROUTING {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 172.17.0.0/16 oifname != "docker0" counter masquerade
	}
}
table ip filter {
	chain DOCKER-USER {
		counter return
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		counter jump DOCKER-USER
		iifname "docker0" oifname != "docker0" counter accept
	}
	chain ufw-user-input {
		tcp dport 22 counter accept
	}
	chain INPUT {
		type filter hook input priority filter; policy accept;
		counter jump ufw-user-input
	}
}
table ip libvirt_network {
	chain guest_nat {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 192.168.122.0/24 ip daddr 224.0.0.0/24 counter return
		meta l4proto tcp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter masquerade to :1024-65535
	}
}
table inet mine {
	set blocked {
		type ipv4_addr
		flags interval
		elements = { 192.0.2.0/24, 203.0.113.7 }
	}
	chain in {
		type filter hook input priority filter + 10; policy accept;
		ip saddr @blocked counter drop comment "a set, and a comment"
	}
}
"""


def furnish(lab: TestLab) -> dict[str, str]:
    """Load the tables on every host of the house. Returns host -> its tables after that."""
    for host in lab.hosts:
        lab.ssh(host, install("nftables"))
        lab.ssh(host, f"nft -f - <<'E'\n{TABLES}E")
    return {host: tables(lab, host) for host in lab.hosts}


def install(*packages: str) -> str:
    """A command that installs Debian packages without the packages that they recommend."""
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -qq"
    return f"{apt} update && {apt} install --yes --no-install-recommends {' '.join(packages)} >/dev/null 2>&1"


def tables(lab: TestLab, host: str) -> str:
    """All tables of a host except the house's. Their handles show whether a rule was removed and made again.

    Empty tables are left out: if iptables is installed, tailscaled makes some, to see whether IPv6 works. Protocols are
    shown as numbers, because their names are in a package that only the gateway needs.
    """
    shown = lab.ssh(host, "nft --handle --stateless --numeric-protocol list ruleset 2>/dev/null")
    found: list[str] = re.findall(r"^table .*?^}$", shown, re.MULTILINE | re.DOTALL)
    return "\n".join(each for each in found if "table inet private_ai " not in each and each.count("\n") > 1)
