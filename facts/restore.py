"""Reads what a host has in the places into which a restore would put something."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from facts.ca import CA_FOLDER
from facts.engine.component_state import looking
from plan.backup.places import HEADSCALE, STATE, TOKEN
from plan.devices.vpn_nodes import RECORD
from plan.engine.errors import AGAIN, shown
from plan.openclaw.configuration import ACCOUNT

#: Role -> what must not be there.
STANDS = {"coordinator": (HEADSCALE, CA_FOLDER, RECORD), "gateway": (STATE, TOKEN)}


class RestorePlaces(FactBase[tuple[str, ...]]):
    """What is there of the state of these roles: paths, and services as "NAME runs". Cost: one remote command."""

    def command(self, roles: Sequence[str]) -> str:
        lines = [
            # An empty folder holds nothing, such as the one that a deployment has just made.
            'p() { for p; do if [ -d "$p" ] && [ ! -L "$p" ]; then [ -n "$(ls -A "$p")" ] && echo "$p"; '
            'elif [ -e "$p" ] || [ -L "$p" ]; then echo "$p"; fi; done; }',
            f"p {' '.join(map(shlex.quote, [path for role in roles for path in STANDS[role]]))}",
        ]
        if "coordinator" in roles:
            lines.append("systemctl is-active --quiet headscale && echo headscale.service runs")
        if "gateway" in roles:
            active = looking(ACCOUNT, "systemctl --user is-active --quiet openclaw.service")
            lines.append(f"getent passwd {ACCOUNT} >/dev/null && {active} 2>/dev/null && echo openclaw.service runs")
        return "\n".join([*lines, "echo end"])

    def process(self, output: list[str]) -> tuple[str, ...]:
        if not output or output[-1] != "end":
            raise FactProcessError(f"what the host has was cut short: {shown(output[-1:])}. {AGAIN}")
        return tuple(output[:-1])
