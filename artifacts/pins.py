"""Reading artifacts/pins.yaml: what is obtained, in which version, checked against what."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from artifacts.errors import PinError

HERE = Path(__file__).resolve().parent
PINS_SETTING = "PRIVATE_AI_PINS"
CPUS = ("amd64", "arm64")
SOURCES = ("release", "build")


@dataclass(frozen=True)
class ReleaseFile:
    """An official file: `sha256` is hexadecimal, of the file or, for an image, of its manifest."""

    url: str
    sha256: str


@dataclass(frozen=True)
class ProgramPin:
    """One program; `release` maps a CPU type to its official file, `recipe` names a folder of artifacts/build/."""

    name: str
    version: str
    recipe: str
    release: dict[str, ReleaseFile]


@dataclass(frozen=True)
class PackagePin:
    """A package of a registry; `sha256` lists the files that may be accepted (one per CPU type, or one)."""

    name: str
    version: str
    sha256: tuple[str, ...]


@dataclass(frozen=True)
class ModelPin:
    """A model inside a package: paths of the GGUF and the licence in it, and what Ollama is told about it."""

    name: str
    package: PackagePin
    gguf: str
    license: str
    config: dict[str, Any]
    params: dict[str, Any]


@dataclass(frozen=True)
class Pins:
    programs: dict[str, ProgramPin]
    packages: dict[str, PackagePin]
    models: dict[str, ModelPin]
    node_version: str
    image_suite: str


def load() -> Pins:
    """The pins: artifacts/pins.yaml, or the file that PRIVATE_AI_PINS names (to try other versions, and for tests).

    Raises PinError when the file is missing, lacks something or is not YAML.
    """
    return _load(Path(os.environ.get(PINS_SETTING) or HERE / "pins.yaml"))


@cache
def _load(path: Path) -> Pins:
    try:
        data = yaml.safe_load(path.read_text())
        return Pins(
            programs={name: _program(name, entry) for name, entry in data["programs"].items()},
            packages={name: _package(entry) for name, entry in data["packages"].items()},
            models={name: _model(name, entry) for name, entry in data["models"].items()},
            node_version=str(data["node"]["version"]),
            image_suite=str(data["image"]["suite"]),
        )
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise PinError(f"{path}: not a pins file ({type(error).__name__}: {error})") from error


def _program(name: str, entry: dict[str, Any]) -> ProgramPin:
    release = {cpu: ReleaseFile(file["url"], file["sha256"]) for cpu, file in entry["release"].items()}
    return ProgramPin(name, str(entry["version"]), entry["recipe"], release)


def _package(entry: dict[str, Any]) -> PackagePin:
    return PackagePin(entry["name"], str(entry["version"]), tuple(entry["sha256"]))


def _model(name: str, entry: dict[str, Any]) -> ModelPin:
    package = PackagePin(entry["package"], str(entry["version"]), tuple(entry["sha256"]))
    return ModelPin(name, package, entry["gguf"], entry["license"], entry["config"], entry["params"])


def program(name: str, cpu: str) -> ProgramPin:
    """The pin of a program. Raises PinError for a name or CPU type that is not pinned."""
    programs = load().programs
    if name not in programs:
        raise PinError(f"no program {name!r} is pinned; there are: {', '.join(programs)}")
    if cpu not in CPUS:
        raise PinError(f"CPU type {cpu!r} is not known; there are: {', '.join(CPUS)}")
    return programs[name]


def inputs(name: str, cpu: str, source: str, gpu: bool = False) -> str:
    """A short digest over everything a result is made from, so that a changed pin or lock file is noticed.

    Returns 16 hexadecimal digits. It reads the few small files of the recipe and nothing else.
    """
    pin = program(name, cpu)
    if source not in SOURCES:
        raise PinError(f"source {source!r} is not known; there are: {', '.join(SOURCES)}")
    if source == "release":
        made_from = [pin.release[cpu].sha256, str(gpu)]
    else:
        made_from = [pin.version, digest_of_recipe(pin.recipe)]
        if name == "ollama":
            made_from += load().packages["llama-server"].sha256
        if name == "openclaw":
            made_from += [digest_of_recipe("node"), load().image_suite]
    return _short_digest(made_from)


def digest_of_recipe(name: str) -> str:
    """16 hexadecimal digits over the files of a folder of artifacts/build/: lock files and what they lock."""
    made_from = []
    for file in sorted((HERE / "build" / name).iterdir()):
        made_from += [file.name, hashlib.sha256(file.read_bytes()).hexdigest()]
    return _short_digest(made_from)


def _short_digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
