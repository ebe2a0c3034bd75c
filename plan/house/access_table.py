"""The access table: who may talk to whom, on which port, over which network, and why.

Firewall rules, the Headscale policy, the listening addresses of services and the checks of the verification are made
from it. No other place repeats a port number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from plan.engine.errors import SettingError, nearest, refuse, shown, tried
from plan.engine.ip_addresses import address, of_no_use_on_lan
from plan.house.setting_values import label, words

SETTING = "group_data/all.py: access_table"

#: Inventory groups, in the order in which they are deployed.
ROLES = ("coordinator", "gateway", "model_hosts", "clients")
#: Roles that are servers. A server may begin only the connections that the firewall lists.
SERVERS = frozenset({"coordinator", "gateway", "model_hosts"})
#: What `from` may be: a role, `admin` (the addresses of admin_networks), or `lan` (all of the local network). Over the
#: VPN also a person, written as Headscale writes users: "anna@".
SOURCES = ("admin", "lan", *ROLES)
TARGETS = ("all", *ROLES)
SEE = "see docs/access-table.md"
#: Rows that the components look up by their id. Without them the house does not work.
NEEDED = ("ssh", "headscale", "stun", "wireguard", "openclaw", "ollama")


@dataclass(frozen=True)
class Row:
    """One permission. `protocol` is tcp or udp; `over` is lan (plain network) or vpn (inside WireGuard).

    `source` is admin, lan, a role, or a person as "NAME@". `target` is all, a role, or an address. With an address the
    row is a way out: the kernel and root of the servers in `source` may connect to it (network file systems, a tunnel
    of the kernel).
    """

    id: str
    source: str
    target: str
    port: int
    protocol: Literal["tcp", "udp"]
    over: str
    why: str

    @property
    def leads_out(self) -> bool:
        """Whether the row lets servers connect to an address, and does not open a port of the house's hosts."""
        return self.target not in TARGETS


def parse_access(raw: object, users: Sequence[str] = ()) -> tuple[Row, ...]:
    """The rows of the table. `users`: the people whom a row may name. Raises one SettingError with all errors; of each
    row it has the first."""
    if not isinstance(raw, list) or not raw:
        raise SettingError(SETTING, raw, "a list of rows", "restore the table from the project")
    problems: list[SettingError] = []
    read = [tried(problems, None, _row, number, entry, users) for number, entry in enumerate(raw, 1)]
    rows = tuple(row for row in read if row)
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            problems.append(SettingError(f"{SETTING} id", row.id, "every id once", "rename one of the two rows"))
        seen.add(row.id)
    there = [entry.get("id") for entry in raw if isinstance(entry, Mapping)]
    for needed in NEEDED:
        if needed not in there:
            problems.append(
                SettingError(
                    f"{SETTING} ids",
                    sorted(seen),
                    f"a table with a row {needed!r}",
                    "restore the row from the project",
                )
            )
    refuse(problems)
    return rows


def _row(number: int, entry: object, users: Sequence[str]) -> Row:
    where = f"{SETTING} row {number}"
    if not isinstance(entry, Mapping):
        raise SettingError(where, entry, "a mapping with id, from, to, port, over, why", SEE)
    keys = {"id", "from", "to", "port", "over", "why"}
    for key in entry:
        if key not in keys:
            raise SettingError(f"{where} key", key, f"one of {sorted(keys)}", nearest(key, keys, SEE))
    for key in sorted(keys - entry.keys()):
        raise SettingError(f"{where} {key}", None, f"a value for {key!r}", "add it to the row")
    label(f"{where} id", entry["id"])
    where = f"{SETTING} row {shown(entry['id'])}"
    words(f"{where} why", entry["why"])
    people = tuple(f"{user}@" for user in users)
    accepted = (
        f"one of {', '.join(SOURCES)}, or over the VPN a person of headscale_users: {', '.join(people) or 'none'}"
    )
    if entry["from"] not in (*SOURCES, *people):
        raise SettingError(f"{where} from", entry["from"], accepted, nearest(entry["from"], (*SOURCES, *people), SEE))
    out = _address(f"{where} to", entry["to"])
    if not out and entry["to"] not in TARGETS:
        raise SettingError(
            f"{where} to",
            entry["to"],
            f"one of {', '.join(TARGETS)}, or the address of a server of your own that servers of the house may reach",
            nearest(entry["to"], TARGETS, SEE),
        )
    if entry["over"] not in ("lan", "vpn"):
        raise SettingError(
            f"{where} over", entry["over"], "one of lan, vpn", nearest(entry["over"], ("lan", "vpn"), SEE)
        )
    found = re.fullmatch(r"([1-9][0-9]{0,4})/(tcp|udp)", entry["port"]) if isinstance(entry["port"], str) else None
    if found is None or int(found[1]) > 65535:
        raise SettingError(f"{where} port", entry["port"], "'NUMBER/tcp' or 'NUMBER/udp', 1 to 65535", "correct it")
    if out:
        _leads_out(where, entry)
    elif entry["over"] == "vpn" and entry["from"] in ("admin", "lan"):
        raise SettingError(
            f"{where} from",
            entry["from"],
            f"over the VPN only {', '.join((*ROLES, *people))}",
            "use over: lan, or a role or a person",
        )
    elif entry["over"] == "lan" and entry["from"] not in ("admin", "lan"):
        raise SettingError(
            f"{where} from",
            entry["from"],
            "over the local network only admin or lan",
            "use over: vpn, or admin or lan",
        )
    return Row(
        id=entry["id"],
        source=str(entry["from"]),
        target=out or str(entry["to"]),
        port=int(found[1]),
        protocol="tcp" if found[2] == "tcp" else "udp",
        over=str(entry["over"]),
        why=entry["why"],
    )


def _address(where: str, value: object) -> str:
    """The address in the form that rules use; "" when the value is not an address. Raises SettingError for an address
    that a host cannot reach."""
    try:
        found = address(value)
    except ValueError:
        return ""
    if why := of_no_use_on_lan(found):
        raise SettingError(where, value, f"an address that the host can reach outside the VPN; this is {why}", SEE)
    return str(found)


def _leads_out(where: str, entry: Mapping[str, object]) -> None:
    """Raises SettingError when a row to an address is not allowed."""
    servers = tuple(role for role in ROLES if role in SERVERS)
    if entry["id"] in NEEDED:
        raise SettingError(f"{where} to", entry["to"], "all, or a group: the house needs this row", SEE)
    if entry["from"] not in servers:
        raise SettingError(
            f"{where} from",
            entry["from"],
            f"one of {', '.join(servers)}: a row to an address is for servers; clients may connect anywhere without it",
            nearest(entry["from"], servers, SEE),
        )
    if entry["over"] != "lan":
        raise SettingError(f"{where} over", entry["over"], "lan: the address is outside the VPN", "use over: lan")
