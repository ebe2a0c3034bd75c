"""Approve one browser at OpenClaw's gateway: exactly the one whose request a person has seen."""

from __future__ import annotations

from collections.abc import Generator

import click
from pyinfra import inventory, logger
from pyinfra.api import FunctionCommand, Host, State, operation

from operations.engine.run_on_host import RemoteError, run_on
from operations.openclaw.browsers import CLI, pairings
from plan.openclaw.browser_requests import Request, unchanged


@operation()
def approved(request: Request) -> Generator[FunctionCommand, None, None]:
    """Own the approval of one browser: of the request as it was shown, and of no other request.

    The list of requests is read again right before the approval and after it. Costs three remote commands of some
    seconds each. Fails when the request does not wait any more or has changed.
    """
    yield FunctionCommand(_approve, (inventory.get_host(request.pairing.gateway), request), {})


def _approve(state: State, host: Host, gateway: Host, request: Request) -> bool:
    asked = request.pairing
    try:
        if not asked.nameable:
            raise RemoteError(f"{asked.shown_id} does not have the form of a request's ID")
        if not unchanged(asked, pairings(gateway)):
            raise RemoteError(
                "it does not wait any more as it was shown: it lapsed, was approved, or comes from another address. "
                "Next: run this again, and compare with the browser's page"
            )
        run_on(gateway, CLI.format(f"approve {asked.id} --json"))
        if not any(each.id == asked.device and not each.waits for each in pairings(gateway)):
            raise RemoteError(
                "OpenClaw accepted the approval, but does not list the browser as approved. Next: run this again"
            )
    except RemoteError as error:
        logger.error(f"{host.print_prefix}request {asked.shown_id} is not approved: {error}")
        return False
    click.echo(f"\n    Approved: {asked.name} of {request.whose}. The page connects by itself.\n", err=True)
    return True
