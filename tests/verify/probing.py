"""Asks the questions of the checks from each vantage point, each once in a run."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import shlex
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyinfra.api.exceptions import FactProcessError

from plan.engine.errors import SettingError
from plan.firewall.package_sources import apt_of
from plan.firewall.rules import ruleset
from plan.house.house import Member
from plan.verification import (
    open_to_lan,
    program_units,
    secret_files,
    speaker,
)
from tests.verify.door import Doors, own_address
from tests.verify.expected import Asked, Expected, target
from tests.verify.inventory import Subject
from tests.verify.message import Message, message_limit, send
from tests.verify.once import Once
from tests.verify.printed import rules
from tests.verify.probes.network import DNS_NAME
from tests.verify.remote import PROBES, ProbeError, Remote, answer
from tests.verify.state import (
    AS_ACCOUNT,
    NETMAP,
    NODES,
    STATE_SECONDS,
    STORE,
    HostState,
    Section,
    hears_control,
    parse_state,
    script,
    started_lately,
)

#: Seconds that a node may take to connect again to a control server that was just started.
COMES_BACK_SECONDS = 20


def in_memory(said: Any) -> dict[str, int]:
    """From Ollama's answer to /api/ps: name of a model -> context length in tokens. Empty without an answer."""
    return {each["name"]: int(each.get("context_length", 0)) for each in (said or {}).get("models") or ()}


class Probing(Expected):
    """Asks each question at its first call, and remembers the answer. Most need one remote command for each host."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.house = subject.house
        outside = subject.outside
        self.remote = Remote([*subject.places.values(), *([outside] if outside else [])])
        self.state = Once(self._state)
        self.outside = Once(self._outside)
        self.sweep = Once(self._sweep)
        self.controller = Once(self._controller)
        self.container = Once(self._container)
        self.host = Once(self._host)
        self.secrets = Once(self._secrets)
        self.programs = Once(self._programs)
        self.planned = Once(self._planned)
        self.model_files = Once(self._model_files)
        self.message = Once(self._message)
        self.world = Once(self._world)
        self.doors: Doors | None = None

    def start(self, modules: Collection[str]) -> None:
        """Begins to ask all that the checks of these modules need, in parallel. Meanwhile the checks run one by one."""
        scope = [member for member in self.house.members if member.name in self.subject.scope]
        wanted: list[tuple[str, Once[Any], tuple[str, ...]]] = []
        wanted += [("outside", self.outside, ()), ("outside", self.controller, ())]
        wanted += [("container", self.container, (gateway.name,)) for gateway in self.house.gateways]
        wanted += [(module, self.host, (member.name,)) for member in scope for module in ("vpn", "host", "egress")]
        wanted += [("host", ask, (member.name,)) for member in scope for ask in (self.secrets, self.programs)]
        wanted += [("firewall", self.planned, (member.name,)) for member in scope]
        wanted += [("message", self.message, (each.name,)) for each in scope if "clients" in each.roles]
        wanted += [("ollama", self.model_files, (each.name,)) for each in scope if "model_hosts" in each.roles]

        def ask(question: Once[Any], of: tuple[str, ...]) -> None:
            # `Once` keeps the error, and each check that needs the answer reports it.
            with contextlib.suppress(ProbeError):
                question(*of)

        pool = ThreadPoolExecutor(16, thread_name_prefix="probing")
        # The sweep takes longest, so it begins at once. It needs no answer of a host.
        if "outside" in modules:
            pool.submit(ask, self.sweep, ())
        # Then the states: they open the connections that all other questions use, and most questions need them.
        first = [pool.submit(ask, self.state, (member.name,)) for member in self.subject.asked]

        def rest() -> None:
            for each in first:
                each.result()
            for module, question, of in dict.fromkeys(wanted):
                if module in modules:
                    pool.submit(ask, question, of)
            pool.shutdown(wait=False)

        threading.Thread(target=rest, daemon=True).start()

    def _state(self, name: str) -> HostState:
        sent = time.time()
        said = self.remote.run(name, script(self.house, self.house.member(name)), seconds=STATE_SECONDS)
        try:
            return parse_state(said.stdout, sent, time.time())
        except FactProcessError as error:
            raise ProbeError(f"{name}: {error}\nnext: log in as root, or set _sudo in the inventory") from error

    def close(self) -> None:
        """Ends the connections, and closes the doors on this computer."""
        if self.doors:
            self.doors.close()
        self.remote.close()

    def _world(self) -> tuple[tuple[str, int], ...]:
        """Addresses and ports outside the house that a service must not reach: in a lab the lab's internet, else ports
        of this computer and of jump hosts, at the addresses that the hosts see."""
        if self.subject.lab:
            return self.subject.internet
        clients = {name: state.profile.ssh_client.partition("%")[0] for name, state in self.states().items()}
        seen = set(clients.values())
        # SSH uses one address family. This adds this computer's address in the other one.
        seen |= {own_address(at.partition("%")[0]) for member in self.subject.asked for at in member.addresses}
        self.doors = Doors(seen)
        # A jump host that is a host of the house does not count, because it is not outside the house.
        inside = {ipaddress.ip_interface(at).ip for each in self.states().values() for _, at in each.profile.addresses}
        jumps = {
            (at, port)
            for name, at in clients.items()
            if at and ipaddress.ip_address(at) not in inside and (port := self.remote.jump_port(name))
        }
        return (*self.doors.targets, *sorted(jumps))

    def let_in(self) -> dict[str, str]:
        """The witness: the results of connections to `world` from places that may connect out. In a lab this is the
        machine outside the VPN, else the clients, which may connect anywhere."""
        if self.subject.lab:
            return dict(self.outside()["connect"])
        found: dict[str, str] = {}
        for member in self.house.members:
            if not member.is_server and member.name in self.subject.scope:
                seen = self.host(member.name)["connect"]
                found |= {at: seen[at] for at in self.at_world() if found.get(at) != "open"}
        return found

    def netmap(self, name: str, is_planned: Callable[[Section], bool]) -> tuple[Section, bool]:
        """What the control server has told a node, and whether the node is connected to it now.

        If the control server was started a short time ago, this waits until the node is connected again, and asks until
        `is_planned` is true, because a node is connected a moment before it gets the new policy.
        """
        coordinator, state = self.house.coordinator, self.state(name)
        if coordinator not in self.subject.asked:
            return state["netmap"], True  # --only leaves out the coordinator, so nobody can tell
        nodes, told = self.state(coordinator.name)["nodes"], state["netmap"]
        lately, end = started_lately(self.state(coordinator.name)), time.monotonic() + COMES_BACK_SECONDS
        while True:
            hears = hears_control(nodes, state.vpn)
            back = hears is None or (hears and (is_planned(told) or not lately))
            if back or time.monotonic() > end:
                return told, bool(hears)
            lately = True
            time.sleep(1)
            nodes, told = (
                Section(said.status, said.stdout)
                for said in (self.remote.run(coordinator.name, NODES), self.remote.run(name, NETMAP))
            )

    def _from_outside(self, job: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        return self.remote.network(self.subject.outside.name if self.subject.outside else None, job, seconds)

    def _outside(self) -> dict[str, Any]:
        stun = [target(address, self.house.port("stun")) for address in self.house.coordinator.addresses]
        forbidden = [each for gateway in self.house.gateways for each in self.forbidden(gateway)]
        seen = [target(each.address, each.port) for each in forbidden if each.witness == "outside"]
        seen += [target(address, port) for address, port in self.subject.internet]
        members = [member for member in self.house.members if member.name in self.subject.scope]
        services = [each.item for member in members for at in member.addresses for each in self.asked_outside(at)]
        return self._from_outside(
            {
                "stun": stun,
                "connect": sorted(set(seen)),
                "service": services,
                "dns": self.name_servers(),
                "authority": self.authority(),
            },
            60,
        )

    def _sweep(self) -> dict[str, Any]:
        """The sweep of all ports. It is a question of its own, because it takes long."""
        members = [member for member in self.house.members if member.name in self.subject.scope]
        addresses = [address for member in members for address in member.addresses]
        found: dict[str, Any] = self._from_outside({"sweep": addresses}, 60 * len(addresses))["sweep"]
        return found

    def _controller(self) -> dict[str, Any]:
        addresses = [address for member in self.subject.asked for address in member.addresses]
        return self.remote.network(
            None,
            {
                "connect": {
                    target(address, port)
                    for member in self.subject.asked
                    for address in member.addresses
                    for port in open_to_lan(self.house, member, "tcp", admin=True)
                },
                "service": [each.item for address in addresses for each in self.asked_as_admin(address)],
            },
        )

    def _container(self, name: str) -> dict[str, Any]:
        forbidden = self.forbidden(self.house.member(name))
        job = {
            "connect": sorted({target(each.address, each.port) for each in forbidden}),
            "lookup": [DNS_NAME],
            "dns": self.name_servers(),
        }
        command = f"{AS_ACCOUNT} podman exec -i openclaw node - {shlex.quote(json.dumps(job))}"
        said = self.remote.run(name, command, (PROBES / "container.js").read_text())
        return answer(said, f"probes from inside the container on {name}")

    def heard(self, source: Member, asked: Asked) -> str:
        """The answer of another host's service to `source`. The account on `source` that may connect has asked."""
        seen, by = self.host(source.name), speaker(asked.row, source)
        said = (seen["as"].get(by) or {"service": {}}) if by else seen
        return str(said["service"].get(asked.item, f"no account {by} to ask from"))

    def _host(self, name: str) -> dict[str, Any]:
        return self.remote.network(name, self.asked_of_host(self.house.member(name)), 120)

    def _secrets(self, name: str) -> dict[str, Any]:
        job = {"files": [each.path for each in secret_files(self.house.member(name), folders=True)]}
        return self._searched(name, "secrets.py", job)

    def _programs(self, name: str) -> dict[str, Any]:
        return self._searched(name, "programs.py", {"units": list(program_units(self.house.member(name)))})

    def _searched(self, name: str, program: str, job: Mapping[str, list[str]]) -> dict[str, Any]:
        """The output of a program of probes/ on a host. It may run for minutes, because it reads many files."""
        command = f"exec python3 - {shlex.quote(json.dumps(job))}"
        said = self.remote.run(name, command, (PROBES / program).read_text(), 180)
        return answer(said, f"{program} on {name}")

    def _planned(self, name: str) -> list[str]:
        """The planned rules in the form that this host's own nft prints. They are loaded into a new network namespace,
        so they do not affect the host."""
        try:
            profile = self.state(name).profile
            apt = apt_of(name, profile.apt_proxies, profile.apt_mirrors)
        except SettingError as error:
            raise ProbeError(f"{error}\nnext: {error.next_step}") from error
        text = ruleset(self.house, self.house.member(name), apt)
        said = self.remote.run(name, "unshare --net sh -c 'nft -f - && nft -j list ruleset'", text)
        return rules(answer(said, f"the plan's rules on {name}"))

    def _model_files(self, name: str) -> str:
        """The digests of all manifests, the digests that the manifests name, and the digests of all blobs. It takes
        some seconds for each 10 GB."""
        command = (
            f"cd {STORE}/manifests && find . -type f -exec sha256sum {{}} + && "
            "find . -type f -exec grep -ohE 'sha256:[0-9a-f]{64}' {} + | sort -u | sed 's/^/named /'; "
            f"cd {STORE}/blobs && sha256sum sha256-*"
        )
        return self.remote.run(name, command, seconds=1800).stdout

    def _message(self, client: str) -> Message:
        servers = self.house.with_role("model_hosts")
        limit = message_limit(self.state(member.name)["models"].json() for member in servers)
        return send(self.remote, self.house, client, limit)

    def loaded(self, host: str) -> dict[str, int]:
        """Models in memory: name -> context length in tokens. If possible as it was before this run sent a message,
        because a message loads the model with its own settings. If none was in memory then: after a message."""
        first = in_memory(self.state(host)["loaded"].json())
        if first:
            return first
        for client in self.house.with_role("clients"):
            if client.name in self.subject.scope:
                self.message(client.name)
                break
        url = f"http://127.0.0.1:{self.house.port('ollama')}/api/ps"
        return in_memory(
            answer(self.remote.run(host, f"curl --disable --silent --fail --max-time 10 {url}"), f"{url} on {host}")
        )
