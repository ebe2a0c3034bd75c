"""The stamp of a deployment."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime

from pyinfra import host
from pyinfra.api import StringCommand, operation

from operations.engine.announced_changes import changed, differs
from operations.engine.shell import into_place
from plan.engine.difference import Change
from plan.engine.stamp import PATH, Deployed, Stamp
from plan.engine.upload_folder import INCOMING


@operation()
def stamped(what: Deployed, before: Stamp | None) -> Generator[StringCommand, None, None]:
    """Own the stamp of this host (plan/engine/stamp.py), whose content at the beginning of the run was `before`.

    It is written when it differs from `what`, or when this run has changed anything on the host. A second run costs no
    remote command.
    """
    if before and before.what == what and not changed():
        host.noop("the stamp is up to date")
        return
    differs(Change(f"stamp {PATH}", "written"))
    # The new file is made in INCOMING: if this run is interrupted here, the next run empties that folder.
    new = f"{INCOMING}/deployed.json"
    yield StringCommand(
        f"umask 022; cat > {new} && {into_place(new, PATH)}", _stdin=Stamp(what, datetime.now(UTC)).text
    )
