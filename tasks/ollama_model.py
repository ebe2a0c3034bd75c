"""The model of a model host: which one, whether there is room for it, and the files of which it consists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyinfra import inventory, logger

from artifacts.errors import ArtifactError
from artifacts.models import registry_reachable
from artifacts.store import Model, find_model, known_model
from facts.ollama import ModelStores, SoundBlobs, Stores
from operations.engine.answers import ask
from operations.engine.run import once_a_run
from plan.base.memory_and_disks import MODELS, model_room
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line
from plan.house.house import Member
from plan.ollama.model_choice import Choice, choose
from plan.ollama.model_fit import Hardware
from tasks.engine.hosts import profile_of
from tasks.engine.house import WrongInput
from tasks.engine.programs import EMPTIED, obtain


@dataclass(frozen=True)
class ModelFiles:
    """A model for one host. `adopt`: blobs that lie in other stores of the host: sha256-HEX -> path. A blob that is
    neither there nor in the house's own store on the host is in the controller's cache."""

    model: Model
    adopt: dict[str, str]


@once_a_run
def choice_of(member: Member) -> Choice:
    """The model of a model host, decided once per run. Raises WrongInput when none fits."""
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
        return choice
    except (SettingError, ArtifactError) as error:
        raise WrongInput(f"host {member.name}: {error} (nothing was changed)") from error


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


@once_a_run
def _stores_of(member: Member) -> Stores:
    """What lies in the stores of a model host, asked once per run."""
    return ask(inventory.get_host(member.name), ModelStores)


@once_a_run
def model_of(member: Member) -> ModelFiles:
    """The files of a model host's model, found once per run. Only what the host does not have is obtained."""
    name, stores = choice_of(member).entry.name, _stores_of(member)
    known = known_model(name)
    if known is None and (stores.own or stores.elsewhere):
        # Its manifest says whether the host has parts of it; that is a few kilobytes.
        obtain("model", "--manifest", name)
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
        obtain("model", *(f"--without={digest}" for digest in there), name)
        found = find_model(name, there)
    if found is None:
        raise WrongInput(f"the model {name} is not in the cache after it was obtained (nothing was changed). {EMPTIED}")
    return ModelFiles(found, adopt)


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
