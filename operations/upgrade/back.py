"""Go back to the version from before the last upgrade."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence

from pyinfra.api import FunctionCommand, StringCommand, operation

from operations.engine.announced_changes import differs
from operations.engine.shell import into_place
from operations.upgrade.follow import followed
from operations.upgrade.scripts import ready, started, unit_at_boot
from plan.engine.difference import Change
from plan.engine.stamp import PATH as STAMP
from plan.upgrade.notes import FOLDER
from plan.upgrade.versions import Step


@operation()
def gone_back(step: Step, waits: Sequence[str], before: str) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Own that a program is the one from before its last upgrade, with its files and data of then.

    It is done as an upgrade is: if the old version does not do then what it did, the present one comes back with its
    data. `before`: a command that comes before its start.
    """
    differs(Change(f"{step.program} {step.old}", f"taken back to {step.new}"))
    yield StringCommand(go_back_script(step, waits, before))
    yield FunctionCommand(followed, (step,), {})


def go_back_script(step: Step, waits: Sequence[str], before: str) -> str:
    """A script that makes a way back out of what the upgrade has kept, and has the host begin. When there is one,
    because it was taken back itself, it begins once more."""
    folder = f"{FOLDER}/{step.program}"
    version = f's/\\("{step.program}": "\\)[^"]*/\\1{step.new}/'
    stamp = f"sed {shlex.quote(version)} {STAMP} >{STAMP}.new && {into_place(f'{STAMP}.new', STAMP)}"
    same = "upgrade job paths look attempt active stop restart stamp journal revision"
    start = f"{before}\ncd {folder}; sh ./restart && sh ./stamp && (umask 022; {stamp})\n"
    return "\n".join(
        [
            f"set -e; umask 077; cd {folder}",
            "if [ ! -e after.tar ]; then",
            f"rm -rf {folder}.part; mkdir {folder}.part",
            # The upgrade may be of an earlier revision, with a program of its own and fewer files.
            f"for f in {same}; do [ ! -e $f ] || cp -p $f {folder}.part; done",
            f"cp before.tar {folder}.part/after.tar",
            f"if [ -e state.tar ]; then cp --reflink=auto state.tar {folder}.part/put.tar; fi",
            f"cp missing {folder}.part/gone; cp before {folder}.part/expected; cd {folder}.part",
            f"printf 'OLD=%s\\nNEW=%s\\n' {shlex.join([step.old, step.new])} >>job",
            f"printf %s {shlex.quote(start)} >start",
            f"{ready(step)}; sync ./*; rm -rf {folder}; cd {FOLDER}; mv -T {folder}.part {folder}; sync .; fi",
            f"cd {folder}; {ready(step)}",
            unit_at_boot(step.program, waits),
            started(step.program, "run"),
        ]
    )
