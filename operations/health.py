"""Ask a host for the state that it has recorded at its last look."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pyinfra.api import Host

from facts.ca import CA_FOLDER
from facts.engine.component_state import STAMPS
from operations.engine.run_on_host import RemoteError, run_on
from plan.backup.places import DONE, KEPT_AT
from plan.backup.restoring import RESTORED
from plan.engine.stamp import PATH
from plan.health import FOLDER, SERVICE, TRUSTED, Answer, look_of
from plan.upgrade.versions import INSTALLED, parse_installed

#: The line before the state, in what the script prints.
STATE = "@@state"
#: Prints a line "DIGEST PATH" for each authority.
DIGESTS = f"sha256sum {TRUSTED} {CA_FOLDER}/*.crt 2>/dev/null || :"


def look(target: Host, now: bool) -> Answer:
    """A host's state. With `now`, the host makes a new look first. Cost: one remote command. If it fails, the result
    says why."""
    try:
        moment, *rest = run_on(target, look_script(now)).splitlines()
        begins = rest.index(STATE)
        certificates = [line.split() for line in rest[:begins] if line.endswith(".crt")]
        return Answer(
            target.connected,
            look_of("\n".join(rest[begins + 1 :])),
            int(moment),
            installed=parse_installed([line for line in rest[:begins] if not line.endswith(".crt")]),
            certificates={path: digest for digest, path in certificates},
        )
    except (RemoteError, ValueError) as error:
        return Answer(target.connected, why=str(error).removeprefix(f"{target.name}: "))


def look_script(
    now: bool, folder: str = FOLDER, changed: Sequence[str] = (STAMPS, PATH, DONE, KEPT_AT, RESTORED)
) -> str:
    """A script that prints the host's time in seconds since 1970, the house's programs, digests of the
    house's authorities that it trusts and, on the coordinator, that there are; then its state. If a run has changed
    something on the host since the last look, or has made a backup, that state is out of date, and the host makes a
    new look first."""
    state, look = f"{folder}/state.json", f"systemctl start {SERVICE}"
    newer = f"find {' '.join(changed)} -newer {state} 2>/dev/null"
    nothing = "it has not looked at itself yet; next: run the deployment"
    waits = "a restore waits for its end; next: make deploy, or the restore again if it was cut off"
    return "\n".join(
        [
            "set -e",
            look if now else f'if test -e {state} && test -n "$({newer})"; then {look}; fi',
            f"if ! test -e {state} && test -e {RESTORED}; then echo {shlex.quote(waits)} >&2; exit 1; fi",
            f"test -e {state} || {{ echo {shlex.quote(nothing)} >&2; exit 1; }}",
            f"date +%s; {INSTALLED}; {DIGESTS}; echo {STATE}; cat {state}",
        ]
    )
