"""The model of a model host: which model, whether the host has room for it, and its files."""

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
from plan.base.profile import Profile
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line
from plan.house.house import Member
from plan.ollama.model_choice import Choice, choose
from plan.ollama.model_fit import Hardware
from plan.ollama.recorded_choice import memory_to_count
from tasks.engine.hosts import profile_of
from tasks.engine.house import WrongInput
from tasks.engine.programs import EMPTIED, obtain


@dataclass(frozen=True)
class ModelFiles:
    """A model for one host. `adopt`: sha256-HEX -> path, for blobs that are in other stores on the host. All blobs that
    are neither there nor in the house's store on the host are in the controller's cache."""

    model: Model
    adopt: dict[str, str]


@once_a_run
def choice_of(member: Member) -> Choice:
    """The model of a model host, chosen once per run. Raises WrongInput when none fits."""
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
        # The registry is asked only if the model is neither on the host nor in a package.
        if choice.needs_registry and not registry_reachable():
            choice = asked(registry_reachable=False)
        return choice
    except (SettingError, ArtifactError) as error:
        raise WrongInput(f"host {member.name}: {error} (nothing was changed)") from error


def memory_of(profile: Profile) -> tuple[int, int]:
    """RAM and VRAM, MiB, for which the model of a model host is chosen."""
    return memory_to_count(profile.machine.model_record, (profile.ram_mib, profile.vram_mib))


def _hardware(member: Member) -> Hardware:
    profile = profile_of(member.name)
    ram_mib, vram_mib = memory_of(profile)
    # The part that an interrupted run has sent counts as free: this run continues it, or deletes it for another model.
    free = profile.machine.disk(MODELS).free_mib / 1024 + _stores_of(member).begun / 2**30
    return Hardware(
        ram_gib=ram_mib / 1024,
        vram_gib=vram_mib / 1024,
        disk_free_gib=free,
        cpus=profile.cpus,
    )


def room_for(member: Member, choice: Choice) -> tuple[list[SettingError], list[str]]:
    """Problems and warnings about the room for a model, on a host on which the house has no model yet. A later run
    finds less free memory and disk space, because the model is there already, and must not be refused for that."""
    profile = profile_of(member.name)
    if MODELS in profile.beside.claimed:
        return [], []
    data = inventory.get_host(member.name).data
    named, context = data.get("ollama_model"), data.get("ollama_context")
    return model_room(member, profile, choice, _hardware(member), named, context)


@once_a_run
def _stores_of(member: Member) -> Stores:
    """The content of the model stores on a model host, asked once per run."""
    return ask(inventory.get_host(member.name), ModelStores)


@once_a_run
def model_of(member: Member) -> ModelFiles:
    """The files of a model host's model, found once per run. Only files that the host does not have are obtained."""
    name, stores = choice_of(member).entry.name, _stores_of(member)
    known = known_model(name)
    if known is None and (stores.own or stores.elsewhere):
        # First only the manifest, a few kilobytes: with it the run sees which parts the host has already.
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
    """sha256-HEX -> path, for those blobs in other stores of the host whose content matches their name."""
    here = inventory.get_host(member.name)
    here.log(f"{name}: {', '.join(sorted({str(Path(path).parent) for path in paths.values()}))} may have it; checking")
    sound: frozenset[str] = here.get_fact(SoundBlobs, paths=tuple(paths.values()))
    for digest in paths.keys() - sound:
        logger.warning(f"host {member.name}: {line(paths[digest])} is damaged: its content does not match its name")
    adopt = {digest: path for digest, path in paths.items() if digest in sound}
    size = sum(sizes[digest] for digest in adopt) / 2**30
    here.log(f"{name}: {size:.1f} GiB of the model are in another store on the host; they are copied from there")
    return adopt
