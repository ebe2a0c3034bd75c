"""Reads the part of a host's profile about what others have there: files, accounts, a VPN, packet filters."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from facts.engine.component_state import STAMPS
from plan.base.profile import Beside, Vpn
from plan.base.writable_folders import OWN_FOLDERS
from plan.engine.claims import ACCOUNTS, CLAIMED, CLAIMS, Login
from plan.firewall.rules import TABLE
from plan.house.access_table import ROLES
from plan.other_programs.drop_ins import DropIn, script
from plan.other_programs.nft_listing import parse

_PLACES = " ".join(shlex.quote(place) for claim in CLAIMS for place in (*claim.places, *claim.shadows))
_ACCOUNTS = " ".join(ACCOUNTS)

# Sections of the script in facts/base/profile.py.
# places: an empty folder or disk belongs to nobody. A link in the place of one of our folders is left out, because
# facts/base/writable_folders.py reports it.
# vpn: Tailscale is asked only while the house has taken nothing on the host.
# tables: of the old iptables, only tables that exist are read, because reading others loads kernel modules. Without the
# program nft, iptables-nft-save prints the tables that nft would list.
SECTIONS = rf"""s claimed; c=$(cat {CLAIMED}); printf '%s\n' "$c"
s places; for p in {_PLACES}; do case "
$c
" in *"
$p
"*) continue ;; esac
case " {" ".join(OWN_FOLDERS)} " in *" $p "*) [ ! -L "$p" ] || continue ;; esac
if [ -d "$p" ] && [ ! -L "$p" ]; then [ -n "$(ls -AI lost+found "$p")" ] && echo "$p"
elif [ -e "$p" ] || [ -L "$p" ]; then echo "$p"; fi; done
s drop-ins
{script(ROLES)}
s accounts; getent passwd {_ACCOUNTS}
s account-groups; getent group {_ACCOUNTS} | cut -d: -f1
s vpn; [ -n "$c" ] || ! command -v tailscale >/dev/null || {{
timeout 5 tailscale status --json --peers=false | sed -n 's/^  "BackendState": "\(.*\)".*/state \1/p'
timeout 5 tailscale debug prefs | sed -n 's/^[[:space:]]*"ControlURL": "\(.*\)".*/control \1/p'; }}
s fenced; {{ [ -e {STAMPS}/private-ai-firewall.service ] || nft list table inet {TABLE} >/dev/null; }} && echo yes
s tables; i() {{ command -v "$1-save" >/dev/null && "$1-save" | "$2-restore-translate" -f /dev/stdin; }}
t=
if command -v nft >/dev/null; then
r=$(nft -t list ruleset) || t=$(nft list tables 2>&1); printf '%s\n' "$r" | sed '/^table inet {TABLE} {{/,/^}}/d'
else i iptables-nft iptables; i ip6tables-nft ip6tables; fi
grep -qs . /proc/net/ip_tables_names && i iptables-legacy iptables
grep -qs . /proc/net/ip6_tables_names && i ip6tables-legacy ip6tables
s nft-trouble; printf '%s\n' "$t"
"""


def parse_beside(sections: Mapping[str, list[str]]) -> Beside:
    """The Beside from the output's sections. Raises KeyError for a missing section, ValueError for one of another
    form."""
    vpn = dict(line.split(" ", 1) for line in sections["vpn"] if " " in line)
    return Beside(
        claimed=frozenset(sections["claimed"]),
        places=frozenset(sections["places"]),
        logins=tuple(_logins(sections["accounts"])),
        groups=frozenset(sections["account-groups"]),
        vpn=Vpn(vpn.get("state", ""), vpn.get("control", "")),
        drop_ins=tuple(_pair(line) for line in sections["drop-ins"]),
        fenced=bool(sections["fenced"]),
        chains=parse(sections["tables"]),
    )


def _pair(line: str) -> DropIn:
    unit, path = line.split(" ")
    return unit, path


def _logins(lines: list[str]) -> Iterator[Login]:
    for line in lines:
        name, _, number, _, _, home, shell = line.split(":")
        yield Login(name, int(number), home, shell)
