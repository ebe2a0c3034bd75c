"""Users and nodes as Headscale itself reports them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

_CUT = "--- nodes"


@dataclass(frozen=True)
class HeadscaleState:
    """`users`: name -> numeric id. `nodes`: the node objects as Headscale prints them."""

    users: dict[str, int]
    nodes: tuple[dict[str, Any], ...]


class Headscale(FactBase[HeadscaleState]):
    """What the control server knows. Asked on the coordinator. Cost: one remote command."""

    def command(self) -> str:
        return (
            # Before the first deployment there is no server, so there are no users and nodes.
            f"if test -S /run/headscale/headscale.sock; "
            f"then headscale users list -o json && echo '{_CUT}' && headscale nodes list -o json; "
            f"else echo null; echo '{_CUT}'; echo null; fi"
        )

    def process(self, output: list[str]) -> HeadscaleState:
        try:
            cut = output.index(_CUT)
            # An empty list is printed as null (Headscale 0.29).
            users = json.loads("\n".join(output[:cut])) or []
            nodes = json.loads("\n".join(output[cut + 1 :])) or []
            return HeadscaleState({user["name"]: int(user["id"]) for user in users}, tuple(nodes))
        except (ValueError, KeyError) as error:
            raise FactProcessError(f"headscale's answer is not understood: {error}") from error
