"""Checks of the gateway: its container, its limits, and that all is off that runs commands or contacts other
servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from plan.backup.places import ARCHIVES, INSIDE
from plan.house.house import Member
from plan.ollama.recorded_choice import chosen
from plan.openclaw.configuration import MEMORY_GIB, OWN_SITES, PIDS, model_servers, openclaw_config
from tests.verify.ledger import Check
from tests.verify.printed import status_fields
from tests.verify.probing import Probing

#: The host's folders that the container may see: path inside -> (path outside, writable).
MOUNTS = {
    "/home/node/.openclaw": ("/var/lib/openclaw/state", True),
    INSIDE: (ARCHIVES, True),
    "/etc/openclaw": ("/etc/openclaw", False),
}
CAGE = (
    "run the deployment again; then on the gateway: "
    "systemctl --user --machine=openclaw@ status openclaw, /etc/containers/systemd/users/"
)


def test_cage(gateway: Member, probing: Probing, check: Check) -> None:
    """The container is rootless, read-only and without capabilities, and sees only its own folders of the host.

    The kernel's answers about the container's first process count. Where the kernel has none, Podman's count.
    """
    state = probing.state(gateway.name)
    found = (state["container"].json() or [{}])[0]
    settings, process = found.get("HostConfig", {}), state["process"].text
    kernel = status_fields(process)
    root = next((line for line in process.splitlines() if " / / " in line), "")
    account = state["account"].text
    mounts = {each["Destination"]: (each["Source"], each["RW"]) for each in found.get("Mounts", ())}
    claims = {
        "the unit is active": state["unit"].text == "active",
        "no other container of its account": state["containers"].text.split() in (["openclaw"], []),
        "it runs as openclaw, not root": account not in ("", "0") and kernel.get("Uid", "").split()[:1] == [account],
        "user namespace": settings.get("UsernsMode") == "private",
        "read-only root": bool(settings.get("ReadonlyRootfs")) and re.search(r" / / ro[, ]", root) is not None,
        "no capabilities": not settings.get("CapAdd")
        and not found.get("BoundingCaps")
        and {kernel.get(name) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16},
        "no new privileges": kernel.get("NoNewPrivs") == "1",
        "not privileged": settings.get("Privileged") is False,
        "a network and processes of its own": settings.get("NetworkMode") == "pasta"
        and settings.get("PidMode") == "private"
        and settings.get("UTSMode") == "private",
        "only its own two folders, so no socket of a container engine": mounts == MOUNTS,
        "the image that was deployed": found.get("Image") not in (None, "")
        and found.get("Image") == state["image"].text,
        "names of its makers' sites lead to no server": {f"{name}:127.0.0.1" for name in OWN_SITES}
        <= set(settings.get("ExtraHosts") or ()),
        "no devices": not settings.get("Devices"),
        "the kernel's filter of system calls": kernel.get("Seccomp") == "2",
    }
    untrue = [claim for claim, holds in claims.items() if not holds]
    check(
        not untrue,
        source=gateway.name,
        target="container",
        expected=", ".join(claims),
        observed=f"not true: {', '.join(untrue)} ({_seen(kernel, root, mounts)})" if untrue else "as expected",
        remedy=CAGE,
    )


def _seen(kernel: dict[str, str], root: str, mounts: dict[str, Any]) -> str:
    names = ("Uid", "CapEff", "CapBnd", "NoNewPrivs")
    said = [f"{name} {kernel[name]}" for name in names if name in kernel]
    return "; ".join([*said, root, f"folders: {', '.join(mounts)}"]) if said else "the container does not run"


def test_limits(gateway: Member, probing: Probing, check: Check) -> None:
    """The container cannot use all memory or all process numbers of its host.

    This is a warning when the host's kernel does not have such a limit.
    """
    state = probing.state(gateway.name)
    said = dict(re.findall(r"(memory\.max|pids\.max):(\S+)", state["process"].text))
    offered = state.profile.cgroup_controllers
    wanted = {"memory.max": str(MEMORY_GIB * 2**30), "pids.max": str(PIDS)}
    absent = [name for name in wanted if name.partition(".")[0] not in offered]
    bad = [
        f"{name} is {said.get(name, 'not set')}"
        for name, value in wanted.items()
        if name not in absent and said.get(name) != value
    ]
    check(
        not bad and not absent,
        source=gateway.name,
        target="container",
        expected=", ".join(f"{name} {value}" for name, value in wanted.items()),
        observed="; ".join([*bad, *(f"{name}: not offered by the host's kernel" for name in absent)]) or "as expected",
        remedy=CAGE if bad else "use a host whose cgroup v2 has the controllers memory and pids",
        warn=not bad,
    )


def test_settings(gateway: Member, probing: Probing, check: Check) -> None:
    """The present configuration is the planned one: all that runs commands, connects out or sends reports is off.

    The check reads the file inside the container. The file is older than the gateway's start, so the gateway uses it.
    """
    house, seen = probing.house, probing.container(gateway.name)
    try:
        choices = {
            member.name: chosen(probing.state(member.name)["chosen"].json() or {}).choice
            for member in house.with_role("model_hosts")
            if member in probing.subject.asked
        }
        planned = openclaw_config(house, gateway, model_servers(house, gateway, choices))
        wrong = list(differences(planned, seen["config"], ""))
    except (ValueError, KeyError) as error:
        planned, wrong = {}, [f"the planned configuration cannot be made: {error}"]
    stale = seen["configSeconds"] < 0
    check(
        not wrong and not stale,
        source=gateway.name,
        target="container",
        expected="openclaw.json as planned: token, TLS, local models only; no tools, web, browser, cron, hooks, "
        "updates, telemetry",
        observed="; ".join(wrong[:6])
        + (f"; and {len(wrong) - 6} more" if len(wrong) > 6 else "")
        + ("the file is newer than the gateway's start" if stale else "")
        or "as expected",
        remedy="run the deployment again: it writes the file and restarts the gateway",
    )


def differences(planned: Any, found: Any, at: str) -> Iterator[str]:
    """Where two JSON values differ, in words."""
    if isinstance(planned, dict) and isinstance(found, dict):
        for key in sorted(planned.keys() | found.keys()):
            where = f"{at}.{key}" if at else key
            if key not in found:
                yield f"{where} is not set"
            elif key not in planned:
                yield f"{where} is {found[key]!r}, not planned"
            else:
                yield from differences(planned[key], found[key], where)
    elif planned != found:
        yield f"{at} is {found!r} instead of {planned!r}"
