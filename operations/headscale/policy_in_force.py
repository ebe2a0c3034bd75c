"""At the end of a run: wait until the policy is also in force at the nodes."""

from __future__ import annotations

import time
from collections.abc import Generator

from pyinfra import host, inventory, logger, state
from pyinfra.api import StringCommand, operation

from facts.headscale import Headscale, HeadscaleState
from facts.tailscale import NodeFilter, Tailscale
from operations.devices.nodes import who_is_who
from operations.engine.answers import ask, unchanged
from plan.headscale.packet_filters import Passage, difference_of, packet_filter
from plan.house.house import House

#: For so many seconds the run waits until a node has heard a restarted control server. A node tries to connect at least
#: every half minute.
HEAR_SECONDS = 60


@operation()
def policy_heard(house: House) -> Generator[StringCommand, None, None]:
    """Owns nothing: waits until this host's node has received from the control server what the access table says.

    It waits only in a run that has changed something; in other runs it costs nothing. If a node does not receive the
    policy in time, a warning names it: that node still applies the earlier policy. The run does not wait for hosts
    outside --limit.
    """
    if not state.is_executing or unchanged():
        host.noop("this run has changed nothing, so its node has the policy already")
        return
    end = time.monotonic() + HEAR_SECONDS
    while why := _behind(house):
        if time.monotonic() > end:
            logger.warning(
                f"{host.print_prefix}the node of {host.name} does not have the policy of this run after "
                f"{HEAR_SECONDS} s: {why}. Next: on {host.name}: systemctl restart tailscaled; then make verify"
            )
            break
        time.sleep(0.5)
    host.noop("its node has the policy of the access table" if not why else "its node does not have the policy yet")
    return
    yield


def _behind(house: House) -> str:
    """What this host's node has not received yet, in words; "" when it has received the whole policy."""
    known = inventory.get_host(house.coordinator.name).get_fact(Headscale)
    if not known.answers:
        return "the control server does not answer"
    own = ask(host, Tailscale).addresses
    if not any(node.online and set(node.addresses) & set(own) for node in known.nodes):
        return "it is not connected to the control server"
    found = host.get_fact(NodeFilter)
    return difference_of(found, _wanted(house, known)) if found is not None else "it was told nothing yet"


def _wanted(house: House, known: HeadscaleState) -> frozenset[Passage]:
    found = who_is_who(house, known)
    nodes = {**found.hosts, **found.devices}
    return packet_filter(house, house.member(host.name), {name: node.addresses for name, node in nodes.items()})
