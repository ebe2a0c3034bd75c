"""Browsers that wait for approval. `playbooks/browser_approve.py` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from plan.devices.device_list import Roll
from plan.engine.errors import SettingError
from plan.openclaw.browsers import Pairing


@dataclass(frozen=True)
class Request:
    """A browser that waits for approval. `whose`: the node of the VPN from which its request came, in words."""

    pairing: Pairing
    whose: str


def requests(roll: Roll) -> tuple[Request, ...]:
    """All browsers that wait, the oldest request first."""
    found = [
        Request(browser, f"{each.name}, {each.what} of {each.owner.replace('tag:', '')}")
        for each in roll.nodes
        for browser in each.browsers
    ]
    found += [Request(browser, "NO NODE OF THE VPN") for browser in roll.others]
    waiting = (each for each in found if each.pairing.waits)
    return tuple(sorted(waiting, key=lambda each: (str(each.pairing.since or ""), each.pairing.id)))


def described(request: Request, now: datetime) -> str:
    """One request as text of several lines."""
    asked, when = request.pairing, "at an unknown time"
    if asked.since:
        when = f"{asked.since.astimezone():%H:%M:%S}, {max(0, int((now - asked.since).total_seconds()))} s ago"
    return "\n".join(
        [
            f"from     {request.whose} ({asked.address or 'unknown address'})",
            f"browser  {asked.name}{f' on {asked.platform}' if asked.platform else ''}, device {asked.device[:12]}, "
            f"wants to be {asked.role or 'unknown'}",
            f"asked    {when}{f', at {asked.gateway}' if asked.gateway else ''}",
            f"request  {asked.shown_id}",
        ]
    )


def named_request(found: Sequence[Request], given: object) -> Request:
    """The request with this ID. If there is none, raises SettingError, which lists the requests that wait."""
    for each in found:
        if each.pairing.id == str(given):
            return each
    waiting = ", ".join(f"{each.pairing.shown_id} ({each.whose})" for each in found)
    raise SettingError(
        "--data request",
        str(given),
        f"the ID of a request that waits: {waiting or 'there is none'}",
        # The message suggests no similar ID, because that might be somebody else's browser.
        "compare with the browser's page; a browser that tries again has a new ID",
    )


def unchanged(shown: Pairing, now: Sequence[Pairing]) -> bool:
    """Whether the request that was shown still waits, from the same browser at the same address.

    OpenClaw keeps the ID when the same browser asks again from another address.
    """
    return shown.waits and shown in now
