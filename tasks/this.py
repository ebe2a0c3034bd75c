"""The house of this run and what is known of each host, asked once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path
from typing import Any

from pyinfra import host, inventory, logger, state
from pyinfra.api import FactBase
from pyinfra.api.exceptions import PyinfraError

from artifacts.errors import ArtifactError
from artifacts.models import registry_reachable
from artifacts.store import Model, Program, find_model, find_program, known_model
from facts.certificate import CaCertificate, CaKeyAccess
from facts.have import ComponentState
from facts.headscale import Headscale
from facts.ollama import ModelStores, SoundBlobs, Stores
from facts.profile import HostProfile
from facts.tailscale import Tailscale, TailscaleState
from facts.together import Question, question
from operations import alone
from operations.asked import NotYet, ask, ask_together
from plan.errors import SettingError
from plan.house import House, Member
from plan.inventory import HostEntry, build_house
from plan.models import Choice, Hardware, choose
from plan.openclaw import WHO
from plan.profile import Profile
from plan.room import MODELS, model_room
from plan.terminal import line
from tasks.inventory import checked, entries_of, groups_of
from tasks.run import RUN


class WrongInput(PyinfraError):
    """Something is wrong with the inventory, a setting or a host. Nothing has been changed on any host."""


@dataclass(frozen=True)
class This:
    """The host being deployed, and its house."""

    house: House
    member: Member
    profile: Profile

    def has(self, role: str) -> bool:
        return role in self.member.roles


@dataclass(frozen=True)
class ModelFiles:
    """A model for one host. `adopt`: blobs that lie in other stores of the host: sha256-HEX -> path. A blob that is
    neither there nor in the house's own store on the host is in the controller's cache."""

    model: Model
    adopt: dict[str, str]


#: What follows when the cache does not have what has just been put there.
EMPTIED = "Next: run this again, while nobody empties the cache"

#: At most one: a run has one inventory.
_houses: list[House] = []
_profiles: dict[str, Profile] = {}
_choices: dict[str, Choice] = {}
_stores: dict[str, Stores] = {}
_models: dict[str, ModelFiles] = {}


def the_house() -> House:
    """The house of the inventory, built and checked once for all hosts. Raises PyinfraError."""
    if not _houses:
        hosts = entries()

        def build() -> House:
            _check_limit(hosts)
            return build_house(hosts, groups_of(inventory, RUN.inventory))

        _houses.append(checked(build))
    return _houses[0]


@cache
def entries() -> list[HostEntry]:
    """The hosts of the inventory by name, with groups and data, whatever --limit says."""
    return entries_of(inventory, RUN.inventory)


def _check_limit(hosts: list[HostEntry]) -> None:
    names = [entry.name for entry in hosts]
    for pattern in RUN.limit:
        if pattern not in inventory.groups and not any(fnmatch(name, pattern) for name in names):
            raise SettingError(
                "--limit",
                pattern,
                f"a host ({', '.join(names)}) or a group ({', '.join(inventory.groups)})",
                "correct it",
            )


def check_reached() -> None:
    """Stop before any change when a host of this run could not be reached."""
    wanted = [each for each in inventory if state.is_host_in_limit(each)]
    missing = sorted(each.name for each in wanted if not each.connected)
    if missing:
        raise WrongInput(
            f"{', '.join(missing)} could not be reached over SSH (nothing was changed). Next: see that the host is up "
            "and that `ssh` works from here, or leave it out with --limit"
        )


def left_out() -> list[str]:
    """The hosts of the house that are not in this run."""
    return [str(each.name) for each in inventory if not state.is_host_in_limit(each)]


def profile_of(name: str) -> Profile:
    """What a host is, asked once per run, also of one outside --limit; with it goes what else can be asked at first."""
    if name not in _profiles:
        here = inventory.get_host(name)
        ask_together(here, _at_first(the_house().member(name)))
        _profiles[name] = ask(here, HostProfile)
        alone.seen(name, _profiles[name].last_run)
    return _profiles[name]


def known_profiles() -> dict[str, Profile]:
    """What is known of hosts by now, by name: of all that this run is about, when the last of them is checked."""
    return dict(_profiles)


def authority_seen(house: House) -> str:
    """The certificate (PEM) of the house's authority, "" for none. Where the coordinator is in this run, only it is
    told: it was asked at first."""
    coordinator = inventory.get_host(house.coordinator.name)
    if host.name != coordinator.name and state.is_host_in_limit(coordinator):
        return ""
    return ask(coordinator, CaCertificate)


def _at_first(member: Member) -> list[Question]:
    facts: list[type[FactBase[Any]]] = [HostProfile, Tailscale]
    if "coordinator" in member.roles:
        facts += [CaCertificate, CaKeyAccess, Headscale]
    if "model_hosts" in member.roles:
        facts.append(ModelStores)
    questions = [question(fact, {}) for fact in facts]
    return [*questions, question(ComponentState, {"component": WHO})] if "gateway" in member.roles else questions


def this() -> This:
    """The current host and its house."""
    house = the_house()
    return This(house, house.member(host.name), profile_of(host.name))


def vpn_of(member: Member) -> TailscaleState:
    """A member's place in the VPN. Raises NotYet while it has none."""
    seen = ask(inventory.get_host(member.name), Tailscale)
    if not seen.joined:
        raise NotYet(f"{member.name} has no VPN address before it has joined")
    return seen


def choice_of(member: Member) -> Choice:
    """The model of a model host, decided once per run. Raises WrongInput when none fits."""
    if member.name not in _choices:
        here = inventory.get_host(member.name)
        asked = partial(
            choose,
            _hardware(member),
            wanted_context=here.data.get("ollama_context"),
            named=here.data.get("ollama_model"),
            present=_stores_of(member).installed,
        )
        try:
            choice = asked(registry_reachable=True)
            # Nobody outside is asked for a model that is at hand.
            if choice.needs_registry and not registry_reachable():
                choice = asked(registry_reachable=False)
            _choices[member.name] = choice
        except (SettingError, ArtifactError) as error:
            raise WrongInput(f"host {member.name}: {error} (nothing was changed)") from error
    return _choices[member.name]


def _hardware(member: Member) -> Hardware:
    profile = profile_of(member.name)
    # What an interrupted run has sent is gone on with, or makes room for another model.
    free = profile.machine.disk(MODELS).free_mib / 1024 + _stores_of(member).begun / 2**30
    return Hardware(
        ram_gib=profile.ram_mib / 1024,
        vram_gib=profile.vram_mib / 1024,
        disk_free_gib=free,
        cpus=profile.cpus,
    )


def room_for(member: Member, choice: Choice) -> tuple[list[SettingError], list[str]]:
    """Problems and warnings about the room for a model, on a host on which the house has none yet: a later run finds it
    there, in memory and on disk, and must not be refused for that."""
    profile = profile_of(member.name)
    if MODELS in profile.beside.claimed:
        return [], []
    data = inventory.get_host(member.name).data
    named, context = data.get("ollama_model"), data.get("ollama_context")
    return model_room(member, profile, choice, _hardware(member), named, context)


def program(name: str, cpu: str, house: House, gpu: bool = False) -> Program:
    """A program for a CPU type from the controller's cache, obtained first when it is not there.

    `gpu`: with the libraries for graphics cards, which are most of Ollama's size.
    """
    found = find_program(name, cpu, house.artifacts_source, gpu)
    if found is None:
        _obtain("prepare", "--cpu", cpu, "--source", house.artifacts_source, *(["--gpu"] if gpu else []), name)
        found = find_program(name, cpu, house.artifacts_source, gpu)
    if found is None:
        raise WrongInput(f"{name} for {cpu} is not in the cache after it was obtained (nothing was changed). {EMPTIED}")
    return found


def _stores_of(member: Member) -> Stores:
    """What lies in the stores of a model host, asked once per run."""
    if member.name not in _stores:
        _stores[member.name] = ask(inventory.get_host(member.name), ModelStores)
    return _stores[member.name]


def model_of(member: Member) -> ModelFiles:
    """The files of a model host's model, found once per run. Only what the host does not have is obtained."""
    if member.name not in _models:
        name, stores = choice_of(member).entry.name, _stores_of(member)
        known = known_model(name)
        if known is None and (stores.own or stores.elsewhere):
            # Its manifest says whether the host has parts of it; that is a few kilobytes.
            _obtain("model", "--manifest", name)
            known = known_model(name)
        wanted = {blob.digest.replace(":", "-"): blob.size for blob in known.blobs} if known else {}
        own = {digest for digest, size in stores.own.items() if wanted.get(digest) == size}
        paths = {
            digest: path
            for digest, (path, size) in stores.elsewhere.items()
            if wanted.get(digest) == size and digest not in own
        }
        adopt = _sound(member, name, paths, wanted) if paths else {}
        there = sorted(digest.replace("-", ":") for digest in own | adopt.keys())
        found = find_model(name, there)
        if found is None:
            _obtain("model", *(f"--without={digest}" for digest in there), name)
            found = find_model(name, there)
        if found is None:
            raise WrongInput(
                f"the model {name} is not in the cache after it was obtained (nothing was changed). {EMPTIED}"
            )
        _models[member.name] = ModelFiles(found, adopt)
    return _models[member.name]


def _sound(member: Member, name: str, paths: dict[str, str], sizes: Mapping[str, int]) -> dict[str, str]:
    """Those of a model's blobs in other stores of its host that have the content their names say."""
    here = inventory.get_host(member.name)
    here.log(f"{name}: {', '.join(sorted({str(Path(path).parent) for path in paths.values()}))} may have it; checking")
    sound: frozenset[str] = here.get_fact(SoundBlobs, paths=tuple(paths.values()))
    for digest in paths.keys() - sound:
        logger.warning(f"host {member.name}: {line(paths[digest])} is damaged: its content is not what its name says")
    adopt = {digest: path for digest, path in paths.items() if digest in sound}
    size = sum(sizes[digest] for digest in adopt) / 2**30
    here.log(f"{name}: {size:.1f} GiB of it are on the host already, to be copied there")
    return adopt


def _obtain(*arguments: str) -> None:
    logger.info(f"--> Obtaining {arguments[-1]}...")
    # A process of its own: its progress goes straight to the terminal, and gevent has no part in it.
    done = subprocess.run([sys.executable, "-m", "artifacts", *arguments], stdout=sys.stderr, check=False)
    if done.returncode:
        raise WrongInput(
            f"obtaining {arguments[-1]} failed, see above (nothing was changed). Next: do what the lines above say and "
            "run this again; what arrived is kept"
        )
