"""Measures how the time of a run that changes nothing grows with the number of clients."""

from __future__ import annotations

import json
import secrets
from functools import partial
from pathlib import Path

from bench.measure import Bench, Figure, Row, ratio, side_by_side

#: The numbers of clients that are measured.
SIZES = (1, 5, 20, 50, 100)
#: By default, sshd refuses some connections when more than ten begin at the same time.
MAX_STARTUPS = "MaxStartups 200"
#: Name of a client -> the replacements in its answers: text of the recorded host -> text of this client.
Instead = dict[str, dict[str, str]]


def rows(bench: Bench, runs: int, work: Path) -> list[Row]:
    """The no-op run of `single` with more and more clients: the laptop, and clients that replay.py makes from it."""
    bench.pyinfra(bench.inventory, "deploy.py")
    bench.ssh("laptop", f"echo {MAX_STARTUPS} > /etc/ssh/sshd_config.d/bench.conf && systemctl reload ssh")
    recording = str(work / "laptop.json")
    bench.unchanging(_inventory(work / "recorded.py", f"record('laptop', {recording!r})", []), "deploy.py")
    found: dict[str, Figure] = {}
    clients: Instead = {}
    for size in SIZES:
        clients |= _more(bench, [f"client-{number}" for number in range(len(clients) + 1, size)])
        sides = {}
        for over_ssh, name in ((False, f"{size} clients"), (True, f"{size} over SSH")):
            says = f"replay({clients!r}, 'laptop', {recording!r}, {str(work / f'answers_{size}.json')!r}, {over_ssh})"
            inventory = _inventory(work / f"clients_{size}_{int(over_ssh)}.py", says, list(clients))
            sides[name] = partial(bench.unchanging, inventory, "deploy.py")
        # The coordinator's configuration names the clients, so it is deployed again before the measurement. The first
        # run with these clients is not measured, because it makes the clients' answers.
        bench.pyinfra(inventory, "deploy.py", "--limit", "home", "--limit", "laptop")
        bench.unchanging(inventory, "deploy.py")
        found |= side_by_side(runs, sides)
    peak = side_by_side(runs, {"largest": lambda: bench.peak_mib(inventory, "deploy.py")}, "MiB")["largest"]
    growth = ratio("no-op run with 50 clients against 5", found["50 clients"], found["5 clients"], 2)
    return [
        Row(growth.what, growth.value, growth.unit, growth.target, tuple(found.values())),
        Row("memory of the controller at 100 clients", peak.median, " MiB", 300, (peak,)),
    ]


def _more(bench: Bench, names: list[str]) -> Instead:
    """Makes nodes with these names in Headscale. Returns for each name: address of the laptop -> address of the
    node."""
    register = (
        "(headscale debug create-node --user people --name {0} --key {1} && "
        "headscale auth register --user people --auth-id {1}) >/dev/null"
    )
    made = [register.format(name, f"hskey-authreq-{secrets.token_hex(12)}") for name in names]
    bench.ssh("home", " && ".join(["true", *made]))
    nodes = {
        node["name"]: node["ip_addresses"] for node in json.loads(bench.ssh("home", "headscale nodes list -o json"))
    }
    return {name: dict(zip(nodes["laptop"], nodes[name], strict=True)) for name in names}


def _inventory(file: Path, says: str, clients: list[str]) -> str:
    """Writes an inventory with `home`, the laptop, and clients that have the laptop's SSH address."""
    hosts = ", ".join(
        f"({name!r}, {{**_lab_host('laptop')[1], 'lan_addresses': ['10.255.{number // 250}.{number % 250 + 1}']}})"
        for number, name in enumerate(clients)
    )
    lines = [
        "from bench.replay import record as _record, replay as _replay",
        "from lab.hosts import lab_host as _lab_host",
        f"_{says}",
        *(f"{role} = [_lab_host('home')]" for role in ("coordinator", "gateway", "model_hosts")),
        f"clients = [_lab_host('laptop'), {hosts}]",
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)
