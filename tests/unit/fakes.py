"""Fake hosts, which only record what a deployment sends to them. So tests see all of it without a real host.

Tasks and operations run unchanged. A fact's command is recorded too, and the fact gets the answer of a bare host.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from pyinfra.api import FunctionCommand, StringCommand
from pyinfra.context import ctx_host, ctx_inventory, ctx_state

from artifacts.store import Blob, Model, ProgramFile
from artifacts.store import Program as Obtained
from facts.ca import CaCertificate, CaKeyAccess, CaOther, CertificateState, OtherAuthority, ServerCertificate
from facts.engine.ask_together import Together, question
from facts.engine.component_state import ComponentState
from facts.headscale import Headscale, HeadscaleState
from facts.ollama import ModelStores, Ollama, OllamaModels, Stores
from facts.tailscale import Tailscale, TailscaleState
from operations.ca import server as certificates
from operations.engine.component import brought
from operations.engine.upload import uploaded
from operations.firewall import guarded
from operations.openclaw import image as image
from operations.openclaw.image import ImagePresent, ImageSeen
from plan.base.capabilities import FOLDERS, Disk, Machine
from plan.base.profile import Profile
from plan.engine.want import Component, Have
from plan.house.house import House
from plan.ollama.model_choice import Choice, choose
from plan.ollama.model_fit import Hardware
from tasks import backup, base, ca, devices, firewall, headscale, ollama, openclaw, tailscale
from tasks.engine.hosts import This
from tasks.ollama_model import ModelFiles
from tasks.upgrade import check as upgrade

PROFILE = Profile(
    hostname="",
    os_id="debian",
    os_version_id="13",
    os_pretty="",
    cpu="amd64",
    cpus=2,
    ram_mib=32768,
    clock=0.0,
    clock_skew_s=0.0,
    systemd=True,
    systemd_version=257,
    cgroup_controllers=frozenset({"memory", "pids"}),
    kernel="",
    addresses=(),
    default_routes=(),
    listeners=(),
    gpus=(),
    vram_mib=0,
    apt_proxies=(),
    apt_mirrors=(),
    ssh_client="",
    ssh_port=0,
    machine_id="",
    reboot_required=False,
    firewall_tried=False,
    firewall_unconfirmed="",
    firewall_taken_back="",
    stamp="",
    machine=Machine(disks=tuple(Disk(folder, "/dev/sda", 500_000) for folder in FOLDERS)),
)
CHOICE: Choice = choose(Hardware(32, 500), wanted_context=None, named=None, registry_reachable=True)
BLOB = Blob(f"sha256:{'d' * 64}", 5, Path("/cache/blob"))
MODEL = Model(CHOICE.entry.name, "registry", Path("/cache/manifest"), "e" * 64, (BLOB,))
KEY = "hskey-auth-1a2b3c4d5e6f-" + "0123456789abcde-" * 4
#: Words of a script -> what the script prints.
SAYS = {
    "preauthkeys create": json.dumps({"id": 9, "key": KEY, "expiration": {"seconds": 1795389309}}),
    "devices list": json.dumps({"paired": [], "pending": []}),
}


@dataclass(eq=False)
class Fake:
    """One fake host. `commands` are texts for sh, `stdins` the contents of their standard input, `files` the
    uploads."""

    name: str
    facts: dict[type, object] = field(default_factory=dict)
    says: Mapping[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    stdins: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    wants: list[Component] = field(default_factory=list)
    connected: bool = True
    print_prefix: str = ""
    current_op_hash: str = ""
    executing_op_hash: str = ""
    data: Mapping[str, object] = field(default_factory=dict)

    def get_fact(self, fact: type, **arguments: Any) -> Any:
        self.commands.append(str(fact().command(**arguments)))
        questions = arguments["questions"] if fact is Together else (question(fact, arguments),)
        for _, more in questions:
            want = dict(more).get("component", Component())
            self.wants.append(want)
            self.files |= {f"file {each.path}": each.content for each in want.files}
            self.files |= {f"lines in {each.path}": each.text for each in want.blocks}
        answers = tuple(self.facts[each] for each, _ in questions)
        return answers if fact is Together else answers[0]

    def run_shell_command(self, command: StringCommand, *_: object, **more: Any) -> tuple[bool, Any]:
        text = command.get_raw_value()
        self.commands.append(text)
        self.stdins.append(str(more.get("_stdin") or ""))
        said = next((said for words, said in {**SAYS, **self.says}.items() if words in text), "")
        return True, SimpleNamespace(stdout=said, stderr="")

    def connector_cls(self, state: object, host: object) -> Fake:
        return self

    def connect(self) -> None:
        return

    def noop(self, _: str) -> None:
        return

    def log(self, _: str) -> None:
        return

    def log_styled(self, _: str, **__: object) -> None:
        return

    def do(self, operation: Any, **arguments: Any) -> None:
        """Run the generator of an operation on this host."""
        for each in operation._inner(**arguments):
            if isinstance(each, FunctionCommand) and each.function is uploaded:
                continue
            if isinstance(each, FunctionCommand):
                assert each.function(None, self, *each.args, **each.kwargs)
            elif isinstance(each, StringCommand):
                self.run_shell_command(each, _stdin=each.connector_arguments.get("_stdin"))


def bare(address: str) -> dict[type, object]:
    """The answers of a host before the first deployment. But it already has an address in the VPN."""
    return {
        ComponentState: Have(accounts={"openclaw": 992}),
        CaCertificate: "",
        CaOther: OtherAuthority(),
        CaKeyAccess: "none",
        CertificateState: ServerCertificate(False, "missing"),
        Headscale: HeadscaleState(True, {}, (), (), {}),
        ModelStores: Stores(frozenset(), {}, {}),
        Ollama: OllamaModels({}, "", {}),
        Tailscale: TailscaleState("Running", "", "", frozenset(), (address, "fd7a:115c:a1e0::7"), False, (), False),
        ImagePresent: ImageSeen(False),
    }


@contextmanager
def context(here: Fake, others: Mapping[str, Fake], executing: bool = True) -> Iterator[None]:
    """Make pyinfra's `host`, `inventory` and `state` stand for these fake hosts."""
    inventory = SimpleNamespace(get_host=lambda name: others[name])
    state = SimpleNamespace(is_executing=executing, is_host_in_limit=lambda host: True, inventory=inventory)
    with ctx_host.use(here), ctx_inventory.use(inventory), ctx_state.use(state):
        yield


def deployed(house: House) -> dict[str, Fake]:
    """Host name -> fake host, after a first deployment of a house."""
    members = house.members
    # Forget the numbers of an earlier house.
    openclaw._numbers().clear()
    hosts = {each.name: Fake(each.name, bare(f"100.64.0.{number}")) for number, each in enumerate(members, 1)}

    def stage(*parts: tuple[str, Callable[[This], None]]) -> None:
        for member in members:
            with context(hosts[member.name], hosts), _tasks(hosts[member.name]):
                this = This(house, member, PROFILE)
                for role, deploy in parts:
                    if not role or this.has(role):
                        deploy(this)

    stage(
        ("", base.deploy),
        ("", firewall.deploy),
        ("gateway", openclaw.send_image),
        ("coordinator", ca.deploy_authority),
        ("coordinator", headscale.deploy),
    )
    users = {name: number for number, name in enumerate(house.users, 1)}
    hosts[house.coordinator.name].facts |= {CaCertificate: "PEM\n", Headscale: HeadscaleState(True, users, (), (), {})}
    stage(("", ca.deploy_trust), ("", tailscale.deploy), ("coordinator", devices.deploy))
    stage(("model_hosts", ollama.deploy), ("gateway", openclaw.deploy), ("", backup.deploy))
    return hosts


@contextmanager
def _tasks(here: Fake) -> Iterator[None]:
    """Run the operations of tasks on `here` at once. Programs and models are replaced by fake ones."""

    def program(name: str, cpu: str, house: House, gpu: bool = False) -> Obtained:
        return Obtained(name, "1.0", cpu, "build", Path("/cache"), (ProgramFile(f"bin/{name}", "a" * 64, 5, "0755"),))

    given: dict[str, Any] = {
        "program": program,
        "model_of": lambda _: ModelFiles(MODEL, {}),
        "choice_of": lambda _: CHOICE,
    }
    operations = (
        *("claimed", "component", "firewall", "authority", "certified", "users", "joined", "nodes"),
        *("lay_down", "answers", "sent", "loaded", "recovered"),
    )

    carriers: dict[str, Any] = {"component": brought, "firewall": guarded}

    def carried_out(operation: Any) -> Callable[..., None]:
        return lambda name, **arguments: here.do(operation, **arguments)

    with ExitStack() as stack:
        modules = (
            backup,
            base,
            firewall,
            ca,
            headscale,
            tailscale,
            devices,
            ollama,
            openclaw,
            upgrade,
            certificates,
            image,
        )
        for module in modules:
            found: dict[str, Any] = {
                name: carried_out(carriers.get(name) or getattr(module, name))
                for name in operations
                if hasattr(module, name)
            }
            found |= {name: value for name, value in given.items() if hasattr(module, name)}
            stack.enter_context(patch.multiple(module, **found))
        yield
