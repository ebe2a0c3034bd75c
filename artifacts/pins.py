"""Reads artifacts/pins.yaml: the programs and models, their versions and checksums."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import date
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
    """An official file. `sha256`: hexadecimal; of the file, or of the manifest if it is an image."""

    url: str
    sha256: str


@dataclass(frozen=True)
class ProgramPin:
    """One program. `release`: CPU type -> official file. `recipe`: a folder of artifacts/build/."""

    name: str
    version: str
    recipe: str
    release: dict[str, ReleaseFile]


@dataclass(frozen=True)
class PackagePin:
    """A package of a registry. `sha256`: of all accepted files (one for each CPU type, or one for all)."""

    name: str
    version: str
    sha256: tuple[str, ...]


@dataclass(frozen=True)
class ModelPin:
    """A model inside a package. `gguf`, `license`: paths inside the package. `config`, `params`: for Ollama's
    manifest."""

    name: str
    package: PackagePin
    gguf: str
    license: str
    config: dict[str, Any]
    params: dict[str, Any]


@dataclass(frozen=True)
class Pins:
    """`checked`: when a person last compared the versions with newer ones."""

    checked: date
    programs: dict[str, ProgramPin]
    packages: dict[str, PackagePin]
    models: dict[str, ModelPin]
    node_version: str
    image_suite: str


def load() -> Pins:
    """The pins from artifacts/pins.yaml, or from the file that PRIVATE_AI_PINS names (to try other versions, and for
    tests).

    Raises PinError when the file or something in it is missing, or when it is not YAML.
    """
    return _load(Path(os.environ.get(PINS_SETTING) or HERE / "pins.yaml"))


@cache
def _load(path: Path) -> Pins:
    try:
        data = yaml.safe_load(path.read_text())
        return Pins(
            checked=date.fromisoformat(str(data["checked"])),
            programs={name: _program(name, entry) for name, entry in data["programs"].items()},
            packages={name: _package(entry) for name, entry in data["packages"].items()},
            models={name: _model(name, entry) for name, entry in data["models"].items()},
            node_version=str(data["node"]["version"]),
            image_suite=str(data["image"]["suite"]),
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
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
    """A short digest of all inputs of a program: 16 hexadecimal digits. It changes when a pin or a lock file changes.

    This function reads only the few small files of the recipe.
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
    """A digest of the files in a folder of artifacts/build/ (lock files, lists of packages): 16 hexadecimal digits."""
    made_from = []
    for file in sorted((HERE / "build" / name).iterdir()):
        made_from += [file.name, hashlib.sha256(file.read_bytes()).hexdigest()]
    return _short_digest(made_from)


def _short_digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
