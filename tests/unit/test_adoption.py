"""If a model is on a host already, it is copied there. It is not downloaded and sent again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import FunctionCommand, StringCommand

from artifacts.__main__ import main
from facts.base.profile import HostProfile
from facts.ollama import ModelStores, Ollama, OllamaModels, SoundBlobs, Stores
from operations import ollama
from operations.engine.run import begin_run
from operations.engine.shell import inside
from plan.base.capabilities import FOLDERS, Disk
from plan.engine.upload_folder import MODELS_INCOMING
from tasks import ollama_model
from tests.unit.artifacts_server import Site, serving, sha256
from tests.unit.fakes import Fake, context
from tests.unit.houses import single
from tests.unit.test_artifacts_models import CONFIG, MANIFEST, WEIGHTS
from tests.unit.test_preflight import GOOD

WEIGHTS_BLOB, CONFIG_BLOB = f"sha256-{sha256(WEIGHTS)}", f"sha256-{sha256(CONFIG)}"
SHARE = "/usr/share/ollama/.ollama/models/blobs"
NOTHING = Stores(frozenset(), {}, {})
Find = Callable[..., ollama_model.ModelFiles]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with serving() as site:
        site.files["/v2/library/tiny/manifests/1b"] = MANIFEST
        for data in (WEIGHTS, CONFIG):
            site.files[f"/v2/library/tiny/blobs/sha256:{sha256(data)}"] = data
        monkeypatch.setenv("PRIVATE_AI_OLLAMA_REGISTRY", site.url)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        yield site


@pytest.fixture
def find(monkeypatch: pytest.MonkeyPatch) -> Iterator[Find]:
    """`model_of` for a host with these stores. The content of blobs in `damaged` does not match their names."""
    asked: list[type] = []

    def find(stores: Stores, damaged: frozenset[str] = frozenset()) -> ollama_model.ModelFiles:
        def get_fact(fact: type, paths: tuple[str, ...] = ()) -> Any:
            asked.append(fact)
            if fact is SoundBlobs:
                return frozenset(path.rpartition("/")[2] for path in paths) - damaged
            assert fact is ModelStores
            return stores

        host = SimpleNamespace(get_fact=get_fact, log=lambda text: None)
        monkeypatch.setattr(ollama_model, "inventory", SimpleNamespace(get_host=lambda name: host))
        monkeypatch.setattr(
            ollama_model, "choice_of", lambda member: SimpleNamespace(entry=SimpleNamespace(name="tiny:1b"))
        )
        monkeypatch.setattr(ollama_model, "ask", lambda of, fact: of.get_fact(fact))
        begin_run()
        monkeypatch.setattr(ollama_model, "obtain", lambda *arguments: main(list(arguments)))
        asked.clear()
        found = ollama_model.model_of(single().member("home"))
        # The contents of blobs are read only if there are blobs to adopt, and only once.
        assert asked.count(SoundBlobs) <= 1 and asked.count(ModelStores) == 1
        return found

    yield find


def fetched(site: Site) -> set[str]:
    """The blobs that were downloaded from the registry."""
    return {
        path.rpartition("/")[2].replace(":", "-")
        for method, path, _ in site.asked
        if method == "GET" and "/blobs/" in path
    }


def elsewhere(*blobs: str, size: int = 0) -> Stores:
    sizes = {WEIGHTS_BLOB: len(WEIGHTS), CONFIG_BLOB: len(CONFIG)}
    return Stores(frozenset(), {}, {blob: (f"{SHARE}/{blob}", size or sizes[blob]) for blob in blobs})


def test_a_host_without_models_gets_all_of_it(site: Site, find: Find) -> None:
    found = find(NOTHING)
    assert found.adopt == {} and all(blob.cached for blob in found.model.blobs)


def test_weights_that_lie_on_the_host_are_adopted_and_not_downloaded(site: Site, find: Find) -> None:
    found = find(elsewhere(WEIGHTS_BLOB))
    assert found.adopt == {WEIGHTS_BLOB: f"{SHARE}/{WEIGHTS_BLOB}"}
    assert fetched(site) == {CONFIG_BLOB}


def test_a_whole_model_on_the_host_costs_a_manifest(site: Site, find: Find) -> None:
    assert set(find(elsewhere(WEIGHTS_BLOB, CONFIG_BLOB)).adopt) == {WEIGHTS_BLOB, CONFIG_BLOB}
    assert fetched(site) == set()


def test_a_model_in_the_cache_is_adopted_all_the_same_and_not_sent(site: Site, find: Find) -> None:
    assert main(["model", "tiny:1b"]) == 0
    asked = len(site.asked)
    assert set(find(elsewhere(WEIGHTS_BLOB)).adopt) == {WEIGHTS_BLOB}
    assert len(site.asked) == asked


def test_a_damaged_blob_is_not_adopted(site: Site, find: Find, caplog: pytest.LogCaptureFixture) -> None:
    assert find(elsewhere(WEIGHTS_BLOB, CONFIG_BLOB), frozenset({WEIGHTS_BLOB})).adopt.keys() == {CONFIG_BLOB}
    assert fetched(site) == {WEIGHTS_BLOB}
    assert f"{SHARE}/{WEIGHTS_BLOB} is damaged" in caplog.text


@pytest.mark.parametrize("stores", [elsewhere(WEIGHTS_BLOB, size=7), elsewhere("sha256-" + "0" * 64, size=5)])
def test_other_blobs_are_not_looked_into(site: Site, find: Find, stores: Stores) -> None:
    assert find(stores).adopt == {}
    assert fetched(site) == {WEIGHTS_BLOB, CONFIG_BLOB}


def test_what_is_in_the_house_s_own_store_is_not_adopted_again(site: Site, find: Find) -> None:
    stores = elsewhere(WEIGHTS_BLOB, CONFIG_BLOB)
    own = Stores(frozenset(), {WEIGHTS_BLOB: len(WEIGHTS), CONFIG_BLOB: 1}, stores.elsewhere)
    assert find(own).adopt.keys() == {CONFIG_BLOB}


def test_what_an_interrupted_run_has_sent_counts_as_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a disk that already has most of a model would seem too small for the model."""
    disks = tuple(Disk(folder, "/dev/sda", 3 * 1024) for folder in FOLDERS)
    profile = replace(GOOD, ram_mib=8 * 1024, machine=replace(GOOD.machine, disks=disks))
    seen = {ModelStores: Stores(frozenset(), {}, {}, begun=4 * 2**30), HostProfile: profile}
    asked = SimpleNamespace(data=SimpleNamespace(get=lambda name: "qwen2.5:7b" if name == "ollama_model" else None))
    monkeypatch.setattr(ollama_model, "inventory", SimpleNamespace(get_host=lambda name: asked))
    monkeypatch.setattr(ollama_model, "ask", lambda of, fact: seen[fact])
    monkeypatch.setattr(ollama_model, "registry_reachable", lambda: True)
    home = single().member("home")
    monkeypatch.setattr(ollama_model, "profile_of", lambda _: profile)
    # 4.4 GiB to send and 2 to keep free.
    assert ollama_model.choice_of(home).entry.name == "qwen2.5:7b"


def test_a_whole_model_leaves_nothing_of_an_interrupted_run() -> None:
    seen = OllamaModels({CONFIG_BLOB: len(CONFIG)}, "0" * 64, {}, begun=True)
    here = Fake("brain", {Ollama: seen})
    inner: Any = ollama.model._inner
    with context(here, {"brain": here}):
        blobs = [(CONFIG_BLOB, len(CONFIG), Path("/nowhere/c"))]
        commands = list(inner("tiny:1b", "m/1b", Path("/nowhere/m"), "0" * 64, blobs, {}, 11434))
    assert [str(command) for command in commands] == [f"rm -rf {MODELS_INCOMING}"]


def test_adopted_blobs_are_copied_on_the_host_and_checked_like_those_that_are_sent() -> None:
    here = Fake("brain", {Ollama: OllamaModels({}, "", {})})
    blobs = [(WEIGHTS_BLOB, len(WEIGHTS), Path("/nowhere/w")), (CONFIG_BLOB, len(CONFIG), Path("/nowhere/c"))]
    inner: Any = ollama.model._inner
    adopt = {WEIGHTS_BLOB: f"{SHARE}/{WEIGHTS_BLOB}"}
    with context(here, {"brain": here}):
        commands = list(inner("tiny:1b", "m/1b", Path("/nowhere/m"), "0" * 64, blobs, adopt, 11434))
    uploads = [command.args[0] for command in commands if isinstance(command, FunctionCommand)]
    assert uploads == [Path("/nowhere/c"), Path("/nowhere/m")]
    said = [str(command) for command in commands if isinstance(command, StringCommand)]
    assert f"{inside(MODELS_INCOMING)}; cp --reflink=auto -- {SHARE}/{WEIGHTS_BLOB} {WEIGHTS_BLOB}" in said
    for blob in (WEIGHTS_BLOB, CONFIG_BLOB):
        assert any("sha256sum --check" in line and f"/{blob} ./{blob})" in line for line in said)
