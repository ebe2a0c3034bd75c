"""Replace OpenClaw's token, for example because too many people know it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator

import click
from pyinfra import logger
from pyinfra.api import FunctionCommand, Host, State, operation

from operations.devices.nodes import PAGES
from operations.engine.component import make_secret, start_unit
from operations.engine.one_run import hold
from operations.engine.run_on_host import RemoteError, run_on
from operations.openclaw.browsers import pairings, revoke
from plan.engine.want import Secret, Unit

#: The list is read so many times, because a browser may ask for approval while others are revoked.
ROUNDS = 3


@operation()
def rotated(secret: Secret, unit: Unit, asking: str, drop: bool, show: bool) -> Generator[FunctionCommand, None, None]:
    """Own the content of a secret: each run makes a new one on this host, and restarts the unit that uses it.

    Succeeds when the unit is ready, refuses the old secret and accepts the new one. `asking` is a curl command without
    the token, for an address that requires the token. `drop` revokes all browser pairings and requests. Neither secret
    leaves the host, unless `show` prints the new one. After an interruption the next deployment restarts the unit.
    """
    hold()
    yield FunctionCommand(_rotate, (secret, unit, asking, drop, show), {})


def _rotate(state: State, host: Host, secret: Secret, unit: Unit, asking: str, drop: bool, show: bool) -> bool:
    host.log("the gateway restarts and is ready again in about 20 s; running conversations are interrupted")
    begun = time.monotonic()
    try:
        run_on(host, rotate_script(secret, unit, asking))
        click.echo(
            f"\n    {host.name}: a new token is in force, the old one is refused, after "
            f"{time.monotonic() - begun:.1f} s",
            err=True,
        )
        if drop:
            click.echo(f"    {drop_all(host)} browser pairings and requests revoked", err=True)
        else:
            click.echo("    approved browsers stay approved; each has to be opened once with the new token", err=True)
        if show:
            click.echo(run_on(host, f"cat {shlex.quote(secret.path)}").strip())
    except RemoteError as error:
        logger.error(f"{host.print_prefix}the token's change was not finished: {error}. Next: run this again")
        return False
    click.echo(f"    Read it on {host.name}, as root: cat {secret.path}", err=True)
    if pages := sorted(page.stem for page in PAGES.glob("*.html")):
        click.echo(f"    Pages with the old token: {', '.join(pages)}. Delete them, or make them again", err=True)
    click.echo("", err=True)
    return True


def rotate_script(secret: Secret, unit: Unit, asking: str) -> str:
    """A script that makes a new secret and restarts its unit. Then it checks that the unit refuses the old secret and
    accepts the new one.

    The secrets stay in the shell and its pipes: they are never arguments, and never printed.
    """
    path = shlex.quote(secret.path)
    answer = f"{asking} --header @- --output /dev/null --write-out '%{{http_code}}'"
    return "\n".join(
        [
            f"test -s {path} || {{ echo there is no token yet: run the deployment >&2; exit 1; }}",
            f"old=$(cat {path})",
            make_secret(secret, anew=True) + " || exit 1",
            start_unit(unit),
            f"""answer() {{ printf 'Authorization: Bearer %s' "$1" | {answer}; }}""",
            f'before=$(answer "$old") after=$(answer "$(cat {path})")',
            '[ "$before $after" = "401 200" ] || '
            '{ echo "the old token is answered with $before, the new one with $after" >&2; exit 1; }',
        ]
    )


def drop_all(gateway: Host) -> int:
    """Revoke every browser pairing and reject every request. Returns how many. Raises RemoteError when new requests
    keep coming."""
    count = 0
    for _ in range(ROUNDS):
        found = pairings(gateway)
        if not found:
            return count
        revoke(gateway, found)
        count += len(found)
    raise RemoteError(f"{gateway.name}: new requests of browsers keep coming; {count} were revoked or rejected")
