"""Reads users, nodes and keys from Headscale, and the record of which keys were made for which device."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from plan.devices.vpn_nodes import RECORD, Key, Minted, VpnNode, key_of, node_of, parse_record
from plan.engine.errors import AGAIN, STRANGE, shown

_CUT = "--- next"
#: Prints "yes" when Headscale runs. It does not before the first deployment, or when somebody has stopped it.
_UP = "up=; test -S /run/headscale/headscale.sock && command -v headscale >/dev/null && up=yes; echo $up"
_ASK = 'if test -n "$up"; then headscale {} list -o json || exit 1; else echo null; fi'


@dataclass(frozen=True)
class HeadscaleState:
    """`answers`: whether Headscale runs. If not, `users`, `nodes` and `keys` are empty. `users`: name -> numeric id.
    `record`: device -> the keys that were made for it."""

    answers: bool
    users: dict[str, int]
    nodes: tuple[VpnNode, ...]
    keys: tuple[Key, ...]
    record: dict[str, Minted]


class Headscale(FactBase[HeadscaleState]):
    """The state of the control server. Only the coordinator has it. Cost: one remote command."""

    def command(self) -> str:
        asked = [
            _UP,
            *(_ASK.format(what) for what in ("users", "nodes", "preauthkeys")),
            f"cat {RECORD} 2>/dev/null || true",
        ]
        return f"; echo '{_CUT}'; ".join(asked)

    def process(self, output: list[str]) -> HeadscaleState:
        parts: list[list[str]] = [[]]
        for line in output:
            if line == _CUT:
                parts.append([])
            else:
                parts[-1].append(line)
        try:
            up, users, nodes, keys, record = ("\n".join(part) for part in parts)
            # Headscale 0.29 prints null for an empty list.
            return HeadscaleState(
                answers=bool(up),
                users={user["name"]: int(user["id"]) for user in json.loads(users) or ()},
                nodes=tuple(node_of(node) for node in json.loads(nodes) or ()),
                keys=tuple(key_of(key) for key in json.loads(keys) or ()),
                record=parse_record(record),
            )
        except STRANGE as error:
            raise FactProcessError(f"headscale's answer is not understood: {shown(error)}. {AGAIN}") from error
