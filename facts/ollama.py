"""Which models an Ollama has on disk and in memory."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from plan.errors import STRANGE, shown

STORE = "/var/lib/ollama/models"


@dataclass(frozen=True)
class OllamaModels:
    """`blobs`: digest (sha256-HEX) -> bytes on disk; `manifest`: sha256 of the asked manifest or "";
    `loaded`: model name -> context length it was loaded with."""

    blobs: dict[str, int]
    manifest: str
    loaded: dict[str, int]


class Ollama(FactBase[OllamaModels]):
    """State of one model on this host. Cost: one remote command."""

    def command(self, manifest: str, port: int) -> str:
        path = shlex.quote(f"{STORE}/manifests/{manifest}")
        return "\n".join(
            [
                f'for f in {STORE}/blobs/sha256-*; do test -f "$f" && stat -c \'%n %s\' "$f"; done 2>/dev/null',
                f'echo "--- $(sha256sum {path} 2>/dev/null | cut -c1-64)"',
                f"curl --silent --max-time 5 http://127.0.0.1:{port}/api/ps || true",
            ]
        )

    def process(self, output: list[str]) -> OllamaModels:
        cut = next((number for number, line in enumerate(output) if line.startswith("---")), None)
        if cut is None:
            raise FactProcessError("the state of Ollama's store was cut short")
        # Files of other names are none of ours, whatever is in a name.
        found = (re.fullmatch(r".*/(sha256-[0-9a-f]+) ([0-9]{1,18})", line, re.ASCII) for line in output[:cut])
        blobs = {each[1]: int(each[2]) for each in found if each}
        try:
            running = json.loads("".join(output[cut + 1 :]) or "{}")
            loaded = {str(model["name"]): int(model.get("context_length", 0)) for model in running.get("models") or ()}
        except STRANGE as error:
            raise FactProcessError(f"Ollama's answer is not understood: {shown(error)}") from error
        return OllamaModels(blobs, output[cut][3:].strip(), loaded)


class InstalledModels(FactBase[frozenset[str]]):
    """Names of the models of Ollama's library in this host's store. Cost: one remote command."""

    def command(self) -> str:
        library = f"{STORE}/manifests/registry.ollama.ai/library"
        return f"cd {library} 2>/dev/null && find . -mindepth 2 -maxdepth 2 -type f || true"

    @staticmethod
    def default() -> frozenset[str]:
        return frozenset()

    def process(self, output: list[str]) -> frozenset[str]:
        return frozenset(line.removeprefix("./").replace("/", ":") for line in output)
