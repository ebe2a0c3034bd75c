"""Users of the control server, and joining a host with a key that lives for minutes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Generator, Sequence

from pyinfra import host, inventory, logger
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation

from facts.headscale import Headscale
from facts.tailscale import Tailscale
from operations.remote import RemoteError, run_on
from plan.errors import STRANGE
from plan.preferences import OFF

#: How long a join key is good for. It is used seconds after it was made.
KEY_LIFE = "10m"
JOIN_SECONDS = 90


@operation()
def users(names: Sequence[str]) -> Generator[StringCommand, None, None]:
    """Own the existence of Headscale users. Others are left alone. A second run costs one remote command."""
    known = host.get_fact(Headscale)
    missing = [name for name in names if name not in known.users]
    if not missing:
        host.noop("all users exist")
    for name in missing:
        yield StringCommand(f"headscale users create {shlex.quote(name)} -o json >/dev/null")


@operation()
def joined(
    control: str, coordinator: str, tags: Sequence[str], user: str, accept_dns: bool
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Own this host's membership in the VPN of `control` (https URL), with `tags`, or owned by `user` when it has none,
    and that Tailscale does nothing else there (plan/preferences.py).

    A single-use key is made on `coordinator` only when the host is not joined or has other tags; it goes over standard
    input and is never printed. A second run costs one remote command and needs no key.
    """
    seen = host.get_fact(Tailscale)
    hostname = host.name
    if not (seen.joined and seen.control == control and seen.tags == frozenset(tags)):
        yield FunctionCommand(
            _join, (inventory.get_host(coordinator), control, tuple(tags), user, accept_dns, seen.joined), {}
        )
        return
    if (seen.accept_dns, seen.hostname, seen.still_on) != (accept_dns, hostname, ()):
        options = (f"--hostname={shlex.quote(hostname)}", f"--accept-dns={str(accept_dns).lower()}", *seen.still_on)
        yield StringCommand(f"tailscale set {' '.join(options)}")
        return
    host.noop("joined")


def _join(
    state: State,
    host: Host,
    coordinator: Host,
    control: str,
    tags: tuple[str, ...],
    user: str,
    accept_dns: bool,
    again: bool,
) -> bool:
    try:
        user_id = None if tags else coordinator.get_fact(Headscale).users[user]
        owner = f"--tags {','.join(tags)}" if tags else f"--user {user_id}"
        made = run_on(coordinator, f"headscale preauthkeys create {owner} --expiration {KEY_LIFE} -o json")
        key = json.loads(made)["key"]
        run_on(host, join_script(control, host.name, accept_dns, again), stdin=key)
    except (RemoteError, *STRANGE) as error:
        logger.error(f"{host.print_prefix}could not join the VPN: {error}")
        return False
    return True


def join_script(control: str, hostname: str, accept_dns: bool, again: bool) -> str:
    """Join with the key on standard input, which is in a root-only file in memory for as long as this takes."""
    options = [
        f"--login-server={shlex.quote(control)}",
        f"--hostname={shlex.quote(hostname)}",
        f"--accept-dns={str(accept_dns).lower()}",
        # Before the first packet; the others are set below.
        "--netfilter-mode=off",
        f"--timeout={JOIN_SECONDS}s",
        "--reset",
    ]
    if again:
        options.append("--force-reauth")
    return "\n".join(
        [
            "set -e; umask 077",
            "key=$(mktemp /run/tailscale/key.XXXXXX); trap 'rm -f \"$key\"' EXIT",
            'cat > "$key"',
            f'tailscale up --auth-key="file:$key" {" ".join(options)}',
            # Not all of them are options of `up`, and off means off after every join.
            f"tailscale set {' '.join(OFF)}",
        ]
    )
