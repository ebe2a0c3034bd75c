"""What was seen from each vantage point, asked once per run."""

from __future__ import annotations

import functools
import json
import shlex
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from plan.checks import Forbidden, closed_over_vpn, forbidden_to_container, open_over_vpn, open_to_lan
from plan.house import Member
from tests.verify.inventory import Subject
from tests.verify.remote import PROBES, ProbeError, Remote, answer
from tests.verify.state import AS_ACCOUNT, Account, HostState, accounts, curl_config, parse_sections, routers, script

#: A name outside the house that a resolver with a way out would know.
OUTSIDE_NAME = "example.com"
#: The address by which Podman's pasta can show a container its host (podman-run(1), --network).
HOST_ALIAS = "169.254.1.2"
QUESTION = "What is the capital of France?"
#: Seconds that an answer may take: a cold model on a slow machine reads 2,300 tokens first.
ANSWER_SECONDS = 300


@dataclass(frozen=True)
class Message:
    """A message and its answer. `usage` in tokens as the reply says; `logged` as the model servers logged meanwhile."""

    status: int
    said: str
    error: str
    seconds: float
    content: str
    usage: Mapping[str, int]
    logged: tuple[Account, ...]


def target(address: str, port: int) -> str:
    return f"{address} {port}"


class Probing:
    """Each method asks on its first call and remembers; one remote command per vantage point and host."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.house = subject.house
        outside = subject.outside
        self.remote = Remote([*subject.places.values(), *([outside] if outside else [])])
        # Asked once each; a failure is not remembered, so every check that needs it says so.
        self.state: Callable[[str], HostState] = functools.cache(self._state)
        self.outside: Callable[[], dict[str, Any]] = functools.cache(self._outside)
        self.sweep: Callable[[], dict[str, Any]] = functools.cache(self._sweep)
        self.controller: Callable[[], dict[str, Any]] = functools.cache(self._controller)
        self.container: Callable[[], dict[str, Any]] = functools.cache(self._container)
        self.client: Callable[[str], dict[str, Any]] = functools.cache(self._client)
        self.message: Callable[[str], Message] = functools.cache(self._message)

    def _state(self, name: str) -> HostState:
        said = self.remote.run(name, script(self.house, self.house.member(name)))
        return parse_sections(said.stdout)

    def states(self) -> dict[str, HostState]:
        """The state of the hosts that are asked, side by side."""
        names = [member.name for member in self.subject.asked]
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(self.state, names), strict=True))

    def _from_outside(self, job: Mapping[str, list[str]], seconds: float) -> dict[str, Any]:
        return self.remote.network(self.subject.outside.name if self.subject.outside else None, job, seconds)

    def _outside(self) -> dict[str, Any]:
        stun = [target(address, self.house.port("stun")) for address in self.house.coordinator.addresses]
        seen = [target(each.address, each.port) for each in self.forbidden() if each.witness == "outside"]
        return self._from_outside({"stun": stun, "connect": seen}, 60)

    def _sweep(self) -> dict[str, Any]:
        """By itself, since it takes long."""
        members = [member for member in self.house.members if member.name in self.subject.scope]
        addresses = [address for member in members for address in member.addresses]
        found: dict[str, Any] = self._from_outside({"sweep": addresses}, 60 * len(addresses))["sweep"]
        return found

    def _controller(self) -> dict[str, Any]:
        return self.remote.network(
            None,
            {
                "connect": {
                    target(address, port)
                    for member in self.subject.asked
                    for address in member.addresses
                    for port in open_to_lan(self.house, member, "tcp", admin=True)
                }
            },
        )

    def forbidden(self) -> tuple[Forbidden, ...]:
        """What the container must not reach."""
        states = self.states()
        return forbidden_to_container(
            self.house,
            self.subject.asked,
            {name: state.listeners for name, state in states.items()},
            {name: state.vpn for name, state in states.items()},
            self.subject.internet,
            (*routers(states[self.house.gateway.name]["routers"].text), HOST_ALIAS),
        )

    def _container(self) -> dict[str, Any]:
        job = {
            "connect": sorted({target(each.address, each.port) for each in self.forbidden()}),
            "lookup": [OUTSIDE_NAME],
        }
        command = f"{AS_ACCOUNT} podman exec -i openclaw node - {shlex.quote(json.dumps(job))}"
        said = self.remote.run(self.house.gateway.name, command, (PROBES / "container.js").read_text())
        return answer(said, "probes from inside the gateway's container")

    def over_vpn(self, client: Member, other: Member) -> tuple[dict[str, int], dict[str, int]]:
        """What `client` tries at `other` over the VPN, as target -> port: what must answer, and what must not."""
        state = self.state(other.name)
        granted = open_over_vpn(self.house, client, other)
        return (
            {target(at, port): port for at in (self.house.vpn_name(other), *state.vpn) for port in granted},
            {
                target(at, port): port
                for at in state.vpn
                for port in closed_over_vpn(self.house, client, other, state.listeners)
            },
        )

    def _client(self, name: str) -> dict[str, Any]:
        client, wanted = self.house.member(name), set[str]()
        self.states()
        for other in self.subject.asked:
            if other != client:
                wanted |= {at for part in self.over_vpn(client, other) for at in part}
        names = [self.house.vpn_name(self.house.gateway)]
        return self.remote.network(name, {"connect": sorted(wanted), "resolve": names})

    def _message(self, client: str) -> Message:
        gateway = self.house.gateway
        token = self.remote.run(gateway.name, "cat /etc/openclaw/token").stdout.strip()
        if not token:
            raise ProbeError(f"{gateway.name}: /etc/openclaw/token is empty\nnext: run the deployment again")
        servers = [member.name for member in self.house.with_role("model_hosts")]
        marks = {name: self._journal_mark(name) for name in servers}
        body = {"model": "openclaw/default", "messages": [{"role": "user", "content": QUESTION}]}
        config = curl_config(
            [
                ("url", f"https://{self.house.vpn_name(gateway)}:{self.house.port('openclaw')}/v1/chat/completions"),
                ("header", f"Authorization: Bearer {token}"),
                ("header", "Content-Type: application/json"),
                ("data", json.dumps(body)),
                ("noproxy", "*"),
                ("max-time", str(ANSWER_SECONDS)),
                ("write-out", "\n%{http_code}"),
            ]
        )
        begun = time.monotonic()
        # As anybody's program would: no privileges are needed, and the system's certificates are trusted.
        said = self.remote.run(client, "curl --silent --show-error --config -", config, ANSWER_SECONDS + 30)
        seconds = time.monotonic() - begun
        text, _, code = said.stdout.rpartition("\n")
        try:
            reply = json.loads(text)
            content = str(reply["choices"][0]["message"]["content"] or "")
            usage = {name: int(value) for name, value in reply["usage"].items() if isinstance(value, int)}
        except (ValueError, KeyError, IndexError, TypeError):
            content, usage = "", {}
        logged = tuple(each for name in servers for each in self._logged(name, marks[name])) if usage else ()
        return Message(int(code or 0), text, said.stderr.strip(), seconds, content, usage, logged)

    def _journal_mark(self, host: str) -> str:
        said = self.remote.run(host, "journalctl --unit=ollama --lines=0 --show-cursor --quiet --no-pager")
        return said.stdout.rpartition("-- cursor: ")[2].strip()

    def _logged(self, host: str, mark: str) -> list[Account]:
        """The prompts logged since `mark`. The last lines may come a moment after the answer."""
        command = f"journalctl --unit=ollama --output=cat --no-pager --after-cursor={shlex.quote(mark)}"
        for _ in range(6):
            found = accounts(self.remote.run(host, command).stdout)
            if found:
                return found
            time.sleep(0.5)
        return []

    def loaded(self, host: str) -> dict[str, int]:
        """Models in memory now: name -> context length in tokens."""
        url = f"http://127.0.0.1:{self.house.port('ollama')}/api/ps"
        said = answer(self.remote.run(host, f"curl --silent --fail --max-time 10 {url}"), f"{url} on {host}")
        return {each["name"]: int(each.get("context_length", 0)) for each in said.get("models") or ()}
