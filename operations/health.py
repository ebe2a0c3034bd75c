"""Ask a host for the state that it keeps of itself."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pyinfra.api import Host

from facts.engine.component_state import STAMPS
from operations.engine.run_on_host import RemoteError, run_on
from plan.engine.stamp import PATH
from plan.health import FOLDER, SERVICE, Answer, look_of


def look(target: Host, now: bool) -> Answer:
    """What a host says of itself. `now`: it looks first. Cost: one remote command. A failure is an answer, too."""
    try:
        moment, _, state = run_on(target, look_script(now)).partition("\n")
        return Answer(target.connected, look_of(state), int(moment))
    except (RemoteError, ValueError) as error:
        return Answer(target.connected, why=str(error).removeprefix(f"{target.name}: "))


def look_script(now: bool, folder: str = FOLDER, changed: Sequence[str] = (STAMPS, PATH)) -> str:
    """Print the host's time in seconds since 1970, then its state. A state from before a run that changed anything on
    the host tells nothing: then the host looks first."""
    state, look = f"{folder}/state.json", f"systemctl start {SERVICE}"
    nothing = "it has not looked at itself yet; next: run the deployment"
    return "\n".join(
        [
            "set -e",
            look
            if now
            else f'if test -e {state} && test -n "$(find {" ".join(changed)} -newer {state})"; then {look}; fi',
            f"test -e {state} || {{ echo {shlex.quote(nothing)} >&2; exit 1; }}",
            f"date +%s; cat {state}",
        ]
    )
