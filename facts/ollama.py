"""Reads which models a host has, on disk and in Ollama's memory."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from plan.engine.errors import AGAIN, STRANGE, shown
from plan.engine.upload_folder import MODELS_INCOMING

STORE = "/var/lib/ollama/models"
#: Stores of other people: the first is that of the service from Ollama's install script, the others are those of
#: `ollama serve` in a person's own account.
OTHER_STORES = ("/usr/share/ollama/.ollama/models", "/root/.ollama/models", "/home/*/.ollama/models")
_BLOB = re.compile(r"sha256-[0-9a-f]{64}")


@dataclass(frozen=True)
class Stores:
    """`installed`: names of the models from Ollama's library in the house's store. `own`: digest (sha256-HEX) -> bytes,
    for the blobs in that store. `elsewhere`: digest -> (path, bytes), for the blobs in other stores. `begun`: bytes
    that an interrupted run has sent; the next run continues or removes them."""

    installed: frozenset[str]
    own: dict[str, int]
    elsewhere: dict[str, tuple[str, int]]
    begun: int = 0


@dataclass(frozen=True)
class OllamaModels:
    """`blobs`: digest (sha256-HEX) -> bytes on disk. `manifest`: sha256 of the model's manifest, or "". `loaded`: name
    of a model in memory -> context length with which it was loaded. `begun`: whether an interrupted run has left the
    folder in which files arrive."""

    blobs: dict[str, int]
    manifest: str
    loaded: dict[str, int]
    begun: bool = False


class Ollama(FactBase[OllamaModels]):
    """State of one model on this host. Cost: one remote command."""

    def command(self, manifest: str, port: int) -> str:
        path = shlex.quote(f"{STORE}/manifests/{manifest}")
        return "\n".join(
            [
                f"find {STORE}/blobs -maxdepth 1 -type f -name 'sha256-*' -printf '%p %s\\n' 2>/dev/null",
                f"test -e {MODELS_INCOMING} && echo begun",
                f'echo "--- $(sha256sum {path} 2>/dev/null | cut -c1-64)"',
                f"curl --disable --silent --max-time 5 http://127.0.0.1:{port}/api/ps || true",
            ]
        )

    def process(self, output: list[str]) -> OllamaModels:
        cut = next((number for number, line in enumerate(output) if line.startswith("---")), None)
        if cut is None:
            raise FactProcessError(f"the state of Ollama's store was cut short. {AGAIN}")
        # Files with other names are not ours. A name may have any characters.
        found = (re.fullmatch(r".*/(sha256-[0-9a-f]+) ([0-9]{1,18})", line, re.ASCII) for line in output[:cut])
        blobs = {each[1]: int(each[2]) for each in found if each}
        try:
            running = json.loads("".join(output[cut + 1 :]) or "{}")
            loaded = {str(model["name"]): int(model.get("context_length", 0)) for model in running.get("models") or ()}
        except STRANGE as error:
            raise FactProcessError(f"Ollama's answer is not understood: {shown(error)}. {AGAIN}") from error
        return OllamaModels(blobs, output[cut][3:].strip(), loaded, "begun" in output[:cut])


class ModelStores(FactBase[Stores]):
    """Models and blobs on this host, in the house's store and in those of other people. Cost: one remote command."""

    def command(self) -> str:
        folders = " ".join([MODELS_INCOMING, *(f"{store}/blobs" for store in (STORE, *OTHER_STORES))])
        return (
            f"cd {STORE}/manifests/registry.ollama.ai/library 2>/dev/null && "
            f"find . -mindepth 2 -maxdepth 2 -type f -printf 'model %P\\n'; "
            f"timeout 20 find {folders} -maxdepth 1 -type f -name 'sha256-*' -printf '%s %p\\n' 2>/dev/null || true"
        )

    @staticmethod
    def default() -> Stores:
        return Stores(frozenset(), {}, {})

    def process(self, output: list[str]) -> Stores:
        installed, own, begun = set(), {}, 0
        elsewhere: dict[str, tuple[str, int]] = {}
        for line in output:
            first, _, path = line.partition(" ")
            folder, _, digest = path.rpartition("/")
            if first == "model":
                installed.add(path.replace("/", ":"))
            elif first.isdigit() and folder == MODELS_INCOMING:
                begun += int(first)
            elif not first.isdigit() or not _BLOB.fullmatch(digest):
                continue  # not a blob, or a file with a strange name
            elif folder == f"{STORE}/blobs":
                own[digest] = int(first)
            else:
                elsewhere.setdefault(digest, (path, int(first)))
        return Stores(frozenset(installed), own, elsewhere, begun)


class SoundBlobs(FactBase[frozenset[str]]):
    """The digests (sha256-HEX) of those blobs whose content agrees with their name. Cost: one remote command, which
    reads all the files."""

    def command(self, paths: tuple[str, ...]) -> str:
        return f"sha256sum -- {' '.join(map(shlex.quote, paths))} 2>/dev/null || true"

    def process(self, output: list[str]) -> frozenset[str]:
        sums = (line.partition("  ") for line in output)
        return frozenset(f"sha256-{digest}" for digest, _, path in sums if path.endswith(f"/sha256-{digest}"))
