"""Looks programs and models up in the cache. It needs no network, and is quick enough for every run.

`find_program` and `find_model` return None when a file is missing or has another size, or when the pins have changed.
Then `python -m artifacts prepare` or `python -m artifacts model` obtains it. The content was checked when it was put
into the cache. The code that sends a file to a host compares it with `sha256` again after it has arrived.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from artifacts import cache, pins


@dataclass(frozen=True)
class ProgramFile:
    """`path`: relative to the prefix ("bin/ollama"). `size`: in bytes. `mode`: octal ("0755").

    `link`: the target, if this is a symbolic link; then `sha256` is "" and `size` is 0. "" for a file.
    """

    path: str
    sha256: str
    size: int
    mode: str
    link: str = ""


@dataclass(frozen=True)
class Program:
    """A program's files below `directory`, in the folders bin/ and lib/. `source`: "release" or "build"."""

    name: str
    version: str
    cpu: str
    source: str
    directory: Path
    files: tuple[ProgramFile, ...]


@dataclass(frozen=True)
class Blob:
    """`digest`: "sha256:<hex>". `size`: in bytes. `path`: the file in the cache."""

    digest: str
    size: int
    path: Path

    @property
    def cached(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size == self.size


@dataclass(frozen=True)
class Model:
    """A model in the form of Ollama's store. `manifest_sha256`: the digest that Ollama shows for the tag.

    Some blobs may be missing in the cache if the model comes from `known_model`, or from `find_model` with `without`.
    """

    name: str
    source: str
    manifest_path: Path
    manifest_sha256: str
    blobs: tuple[Blob, ...]


def program_directory(name: str, cpu: str, source: str, gpu: bool = False) -> Path:
    """The folder of a program in the cache. It may not exist yet."""
    version = pins.program(name, cpu).version
    variant = "-gpu" if gpu else ""
    return cache.root() / "programs" / f"{name}-{version}-{cpu}-{source}{variant}"


def model_directory(name: str) -> Path:
    """The folder of a model in the cache: models/qwen3-8b for "qwen3:8b". It may not exist yet."""
    model, tag = split_model_name(name)
    return cache.root() / "models" / f"{model.replace('/', '_')}-{tag}"


def split_model_name(name: str) -> tuple[str, str]:
    """("qwen3", "8b") for "qwen3:8b". The tag is "latest" when the name has none."""
    model, _, tag = name.partition(":")
    return model, tag or "latest"


def find_program(name: str, cpu: str, source: str = "auto", gpu: bool = False) -> Program | None:
    """The program in the pinned version, or None. With the source "auto", a release comes before a build.

    `gpu`: Ollama with its libraries for graphics cards. Other programs, and builds, have no such variant, so with `gpu`
    no build of Ollama is found. Raises PinError for an unknown name, CPU type or source.
    """
    for wanted in pins.SOURCES if source == "auto" else (source,):
        variant = gpu and name == "ollama"
        made_from = pins.inputs(name, cpu, wanted, variant)
        directory = program_directory(name, cpu, wanted, variant)
        manifest = _read(directory / "manifest.json")
        if manifest is None or manifest.get("inputs") != made_from:
            continue
        files = tuple(ProgramFile(**file) for file in manifest["files"])
        if all(_intact(directory, file) for file in files):
            return Program(name, manifest["version"], cpu, wanted, directory, files)
    return None


def find_model(name: str, without: Collection[str] = ()) -> Model | None:
    """The model (name:tag as Ollama writes it), or None. `without`: digests of blobs that may be missing."""
    known = known_model(name)
    if known is None or not all(blob.digest in without or blob.cached for blob in known.blobs):
        return None
    return known


def known_model(name: str) -> Model | None:
    """A model whose manifest is in the cache, even if blobs are missing; else None."""
    directory = model_directory(name)
    info = _read(directory / "info.json")
    if info is None:
        return None
    blobs = tuple(
        Blob(blob["digest"], blob["size"], directory / "blobs" / blob["digest"].replace(":", "-"))
        for blob in info["blobs"]
    )
    manifest = directory / "manifest.json"
    if not manifest.is_file():
        return None
    return Model(info["name"], info["source"], manifest, info["manifest_sha256"], blobs)


def all_models() -> list[Model]:
    """All complete models in the cache, sorted by name."""
    names = []
    for path in (cache.root() / "models").glob("*/info.json"):
        info = _read(path)
        if info is not None:
            names.append(str(info["name"]))
    return [model for name in sorted(names) if (model := find_model(name))]


def publish_program(staged: Path, name: str, cpu: str, source: str, gpu: bool = False) -> Program:
    """Writes a manifest of the files below `staged`, and then moves the folder to its place in the cache."""
    files = []
    for path in sorted(p for p in staged.rglob("*") if p.is_symlink() or p.is_file()):
        relative = path.relative_to(staged).as_posix()
        if path.is_symlink():
            files.append(ProgramFile(relative, "", 0, "0777", str(path.readlink())))
        else:
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            path.chmod(mode)
            files.append(ProgramFile(relative, cache.sha256_of(path), path.stat().st_size, f"{mode:04o}"))
    version = pins.program(name, cpu).version
    manifest = {
        "name": name,
        "version": version,
        "cpu": cpu,
        "source": source,
        "inputs": pins.inputs(name, cpu, source, gpu),
        "files": [asdict(file) for file in files],
    }
    (staged / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    directory = program_directory(name, cpu, source, gpu)
    cache.put(staged, directory)
    return Program(name, version, cpu, source, directory, tuple(files))


def publish_model(staged: Path, name: str, source: str, manifest: bytes, blobs: list[tuple[str, int]]) -> None:
    """Writes manifest.json and info.json beside staged/blobs/, and moves the folder to its place in the cache."""
    info = {
        "name": name,
        "source": source,
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
        "blobs": [{"digest": digest, "size": size} for digest, size in blobs],
    }
    (staged / "manifest.json").write_bytes(manifest)
    (staged / "info.json").write_text(json.dumps(info, indent=2) + "\n")
    cache.put(staged, model_directory(name))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return data if isinstance(data, dict) else None


def _intact(directory: Path, file: ProgramFile) -> bool:
    path = directory / file.path
    if file.link:
        return path.is_symlink()
    return path.is_file() and path.stat().st_size == file.size
