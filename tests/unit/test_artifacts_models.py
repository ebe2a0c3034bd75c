"""Models are downloaded from a registry with Ollama's protocol, and stored in the form of Ollama's store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts import models, store
from artifacts.__main__ import main
from artifacts.errors import ArtifactError
from artifacts.fetch import get_small
from artifacts.registry import Repository
from tests.unit.artifacts_server import Site, serving, sha256

WEIGHTS = b"GGUF" + bytes(200_000)
CONFIG = b'{"model_format":"gguf"}'


def entry(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": f"sha256:{sha256(data)}", "size": len(data)}


MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": models.MANIFEST_TYPE,
        "config": entry(models.CONFIG_TYPE, CONFIG),
        "layers": [entry(models.LAYER + "model", WEIGHTS)],
    },
    indent=1,
).encode()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with serving() as site:
        for name in ("library/tiny", "somebody/tiny"):
            site.files[f"/v2/{name}/manifests/1b"] = MANIFEST
            for data in (WEIGHTS, CONFIG):
                site.files[f"/v2/{name}/blobs/sha256:{sha256(data)}"] = data
        site.files["/v2/"] = b"{}"
        monkeypatch.setenv("PRIVATE_AI_OLLAMA_REGISTRY", site.url)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        yield site


@pytest.mark.parametrize("name", ["tiny:1b", "somebody/tiny:1b"])
def test_manifest_and_blobs_arrive_byte_for_byte(site: Site, name: str) -> None:
    assert models.registry_reachable()
    assert main(["model", name]) == 0
    model = store.find_model(name)
    assert model is not None
    assert (model.name, model.source, model.manifest_sha256) == (name, "registry", sha256(MANIFEST))
    assert model.manifest_path.read_bytes() == MANIFEST
    assert [(blob.path.name, blob.path.read_bytes()) for blob in model.blobs] == [
        (f"sha256-{sha256(data)}", data) for data in (CONFIG, WEIGHTS)
    ]
    assert store.all_models() == [model]


def test_a_second_run_asks_for_nothing(site: Site) -> None:
    assert main(["model", "tiny:1b"]) == 0
    before = len(site.asked)
    assert main(["model", "tiny:1b"]) == 0
    assert len(site.asked) == before


def test_an_interrupted_model_goes_on_with_the_parts_it_has(site: Site) -> None:
    weights = f"/v2/library/tiny/blobs/sha256:{sha256(WEIGHTS)}"
    missing = site.files.pop(weights)
    assert main(["model", "tiny:1b"]) == 1
    site.files[weights] = missing
    assert main(["model", "tiny:1b"]) == 0
    assert len(site.gets(f"/v2/library/tiny/blobs/sha256:{sha256(CONFIG)}")) == 1


def test_a_wrong_blob_fails_with_both_digests_and_is_not_kept(
    site: Site, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    evil = b"EVIL" + WEIGHTS[4:]
    site.files[f"/v2/library/tiny/blobs/sha256:{sha256(WEIGHTS)}"] = evil
    assert main(["model", "tiny:1b"]) == 1
    said = capsys.readouterr().err
    assert sha256(WEIGHTS) in said and sha256(evil) in said
    assert store.find_model("tiny:1b") is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == len(evil)]


@pytest.mark.parametrize(
    "manifest", [b"<html>", b"[]", b"{}", MANIFEST.replace(b"sha256:", b"../../"), MANIFEST.replace(b"200004", b"7")]
)
def test_a_broken_manifest_fails(site: Site, manifest: bytes) -> None:
    site.files["/v2/library/tiny/manifests/1b"] = manifest
    assert main(["model", "tiny:1b"]) == 1
    assert store.find_model("tiny:1b") is None


def test_parts_that_a_host_has_are_not_fetched_again(site: Site) -> None:
    """First only the manifest is downloaded, which names the parts. Then the parts that the host does not have. Later
    perhaps the other parts."""
    weights, config = (f"/v2/library/tiny/blobs/sha256:{sha256(data)}" for data in (WEIGHTS, CONFIG))
    held = f"sha256:{sha256(WEIGHTS)}"
    assert main(["model", "--manifest", "tiny:1b"]) == 0
    known = store.known_model("tiny:1b")
    assert known is not None and [blob.cached for blob in known.blobs] == [False, False]
    assert known.manifest_path.read_bytes() == MANIFEST and not site.gets(weights) and not site.gets(config)
    assert store.find_model("tiny:1b", [held]) is None
    assert main(["model", "tiny:1b", "--without", held]) == 0
    assert len(site.gets(config)) == 1 and not site.gets(weights)
    assert store.find_model("tiny:1b") is None and store.all_models() == []
    found = store.find_model("tiny:1b", [held])
    assert found is not None and found.manifest_sha256 == sha256(MANIFEST)
    before = len(site.asked)
    assert main(["model", "tiny:1b", "--without", held]) == 0 and len(site.asked) == before
    # Another host has other parts. The parts in the cache stay there.
    assert main(["model", "tiny:1b", "--without", f"sha256:{sha256(CONFIG)}"]) == 0
    assert main(["model", "tiny:1b"]) == 0
    assert len(site.gets(config)) == len(site.gets(weights)) == 1
    assert store.find_model("tiny:1b") is not None


def test_a_manifest_alone_is_judged_too(site: Site) -> None:
    site.files["/v2/library/tiny/manifests/1b"] = MANIFEST.replace(b"sha256:", b"../../")
    assert main(["model", "--manifest", "tiny:1b"]) == 1
    assert store.known_model("tiny:1b") is None


def test_an_unknown_model_and_a_bad_name_are_said(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "tiny:9b"]) == 1
    assert "404" in capsys.readouterr().err
    assert main(["model", "../../tiny"]) == 1
    assert "accepted: MODEL:TAG" in capsys.readouterr().err


def test_no_registry_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVATE_AI_OLLAMA_REGISTRY", "http://127.0.0.1:1")
    assert not models.registry_reachable()


def test_a_registry_that_wants_a_login_is_said(site: Site) -> None:
    with pytest.raises(ArtifactError, match="asks for a login that is not offered to everybody"):
        Repository(f"{site.url}/v2/library/tiny")._token('Basic realm="somebody"')


def test_a_document_without_end_is_not_read(site: Site) -> None:
    site.files["/v2/"] = bytes(200)
    with pytest.raises(ArtifactError, match="more than 100 bytes where a small document was expected"):
        get_small(f"{site.url}/v2/", limit=100)
