"""A host's membership in the VPN. It joins with a key that is valid for ten minutes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Generator, Sequence

from pyinfra import host, inventory, logger, state
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation

from facts.headscale import Headscale, HeadscaleState
from facts.tailscale import Tailscale, TailscaleState
from operations.engine.announced_changes import differs, not_yet
from operations.engine.answers import ask
from operations.engine.run_on_host import RemoteError, run_on
from plan.engine.difference import Change
from plan.engine.errors import STRANGE
from plan.tailscale.preferences import OFF

#: How long a join key is valid. The host uses it a few seconds after it was made.
KEY_LIFE = "10m"
JOIN_SECONDS = 60
JOIN_TRIES = 3


@operation()
def joined(
    control: str, coordinator: str, tags: Sequence[str], user: str, accept_dns: bool
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Own this host's membership in the VPN of `control` (https URL), and that Tailscale does nothing else on the host
    (plan/tailscale/preferences.py). The node has `tags`; without tags it is owned by `user`.

    A single-use key is made on `coordinator` only in these cases: the host is not joined, has other tags or another
    owner, or the control server does not know its node (tailscaled itself does not report that). The host gets the key
    over standard input, and it is never printed. A second run needs no key.
    """
    seen = ask(host, Tailscale)
    hostname = host.name
    if not seen.backend and not state.is_executing:
        yield not_yet("Tailscale does not answer")
        return
    server = inventory.get_host(coordinator)
    why = apart(seen, control, tags)
    if not why:
        known = ask(server, Headscale)
        why = unknown(seen, known) or owned_by_another(seen, known, "" if tags else user)
    if why:
        differs(Change("the host", "joined to the VPN", why))
        yield FunctionCommand(join, (server, control, tuple(tags), user, accept_dns, seen.joined), {})
        return
    asked = {
        f"--hostname={shlex.quote(hostname)}": seen.hostname == hostname,
        f"--accept-dns={str(accept_dns).lower()}": seen.accept_dns == accept_dns,
    }
    options = [*(option for option, is_so in asked.items() if not is_so), *seen.still_on]
    if options or seen.serves:
        served = [Change("the ports that Tailscale itself serves on the host", "closed")] if seen.serves else []
        differs(*served, *(Change(f"Tailscale's option {option}", "set", "it has another value") for option in options))
    if seen.serves:
        yield StringCommand("tailscale serve reset")
    if options:
        yield StringCommand(f"tailscale set {' '.join(options)}")
    elif not seen.serves:
        host.noop("joined")


def apart(seen: TailscaleState, control: str, tags: Sequence[str]) -> str:
    """Why a host is not joined as wanted, according to its own tailscaled; "" when it is."""
    if not seen.joined:
        return f"Tailscale says {seen.backend or 'nothing'}"
    if seen.control != control:
        return f"it belongs to {seen.control}"
    return "" if seen.tags == frozenset(tags) else f"its node has {', '.join(sorted(seen.tags)) or 'no tags'}"


def unknown(seen: TailscaleState, known: HeadscaleState) -> str:
    """Why a host whose tailscaled says "joined" is not, according to the control server; "" when it is, or when the
    control server does not answer."""
    addresses = {address for node in known.nodes for address in node.addresses}
    return "the control server does not know its node" if known.answers and not addresses & {*seen.addresses} else ""


def owned_by_another(seen: TailscaleState, known: HeadscaleState, user: str) -> str:
    """Why a person's host must join again: its node does not belong to the Headscale user `user`.

    "" when the node belongs to that user, when the owner is not known, and for a server, whose `user` is "".
    """
    found = {node.user for node in known.nodes if {*node.addresses} & {*seen.addresses}}
    return f"its node belongs to {', '.join(sorted(found))}" if user and found and found != {user} else ""


def join(
    state: State,
    host: Host,
    coordinator: Host,
    control: str,
    tags: tuple[str, ...],
    user: str,
    accept_dns: bool,
    again: bool,
) -> bool:
    said = ""
    for attempt in range(JOIN_TRIES):
        try:
            user_id = None if tags else coordinator.get_fact(Headscale).users[user]
            owner = f"--tags {','.join(tags)}" if tags else f"--user {user_id}"
            made = run_on(coordinator, f"headscale preauthkeys create {owner} --expiration {KEY_LIFE} -o json")
            # A new key for each attempt: tailscaled may have used the last key and still report that it was refused.
            key = json.loads(made)["key"]
            run_on(host, join_script(control, host.name, accept_dns, again, anew=attempt > 0), stdin=key)
            return True
        except (RemoteError, *STRANGE) as error:
            said = str(error)
    logger.error(f"{host.print_prefix}could not join the VPN: {said}")
    return False


def join_script(control: str, hostname: str, accept_dns: bool, again: bool, anew: bool) -> str:
    """A script that joins with the key on standard input. The key is in no file and no argument.

    `again`: the host is in a VPN already. `anew`: tailscaled is restarted first.
    """
    options = [
        f"--login-server={shlex.quote(control)}",
        f"--hostname={shlex.quote(hostname)}",
        f"--accept-dns={str(accept_dns).lower()}",
        # This must be off before the first packet. The other options are set below.
        "--netfilter-mode=off",
        f"--timeout={JOIN_SECONDS}s",
        "--reset",
    ]
    # Only if the host is in a VPN: with this option tailscaled registers twice. Sometimes both registrations arrive,
    # and the second one fails because the key is used.
    options += ["--force-reauth"] if again else []
    said = "tailscale status --peers=false; journalctl --unit=tailscaled --boot --lines=15 --no-pager --output=cat"
    return "\n".join(
        [
            "set -e",
            # With an empty key, `up` would wait until somebody logs in.
            'key=$(cat); test -n "$key"',
            # If tailscaled started without a network, or before the control server, it may wait for a network change
            # that has already happened.
            *(["systemctl restart tailscaled"] if anew else []),
            f'printf %s "$key" | tailscale up --auth-key=file:/dev/stdin {" ".join(options)} || '
            f"{{ {{ {said}; }} >&2; exit 1; }}",
            # `up` does not know all of these options, and each must be off after every join.
            f"tailscale set {' '.join(OFF)}",
        ]
    )
