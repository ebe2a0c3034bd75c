"""Put a model into Ollama's store, and make it generate a token."""

from __future__ import annotations

import json
import shlex
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from pyinfra import host
from pyinfra.api import FunctionCommand, StringCommand, operation

from facts.ollama import STORE, Ollama
from operations.engine.announced_changes import differs
from operations.engine.answers import ask, will_ask
from operations.engine.shell import below, inside, into_place
from operations.engine.upload import upload
from plan.engine.difference import Change
from plan.engine.upload_folder import MODELS_INCOMING
from plan.openclaw import time_limits

#: How long the model stays in memory after the deployment has loaded it: ten years. After a message of OpenClaw it
#: stays for ever. By this difference the gateway sees that the model has not read the system prompt yet
#: (templates/openclaw).
LOADED_FOR = "87600h"


def asks(manifest: str, port: int) -> None:
    """Register the question about this model's state, which both operations below ask."""
    will_ask(host, Ollama, manifest=manifest, port=port)


@operation()
def model(
    model_name: str,
    manifest: str,
    manifest_file: Path,
    manifest_sha256: str,
    blobs: Sequence[tuple[str, int, Path]],
    adopt: Mapping[str, str],
    port: int,
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Own one model in Ollama's store: its blobs, given as (sha256-HEX, bytes, file), and its manifest.

    `manifest` is the path below the store's manifests folder. Blobs in `adopt` (sha256-HEX -> path on the host) are
    copied from there. They are not linked, because the owner of the file could then change what Ollama serves. Each
    blob is checked against its digest on the host before it is moved into place. The manifest is moved last. The files
    are sent directly to the disk of the store; until a file is complete, only root can read it. After an interruption,
    the next run sends what is missing.
    """
    seen = ask(host, Ollama, manifest=manifest, port=port)
    missing = [(digest, size, file) for digest, size, file in blobs if seen.blobs.get(digest) != size]
    if not missing and seen.manifest == manifest_sha256:
        if not seen.begun:
            host.noop(f"{model_name} is there")
            return
        differs(Change(MODELS_INCOMING, "removed", "an interrupted run has left it"))
        yield StringCommand(f"rm -rf {MODELS_INCOMING}")
        return
    count = f"{len(missing)} of {len(blobs)} files are missing or cut short"
    why = count if missing else "its manifest is missing or differs"
    differs(Change(f"model {model_name}", "sent", why))
    here = inside(MODELS_INCOMING)
    for digest, _, file in missing:
        if digest in adopt:
            yield StringCommand(f"{here}; cp --reflink=auto -- {shlex.quote(adopt[digest])} {digest}")
        else:
            yield upload(file, digest, digest.removeprefix("sha256-"), MODELS_INCOMING)
        yield StringCommand(stored(digest, digest.removeprefix("sha256-"), f"blobs/{digest}"))
    yield upload(manifest_file, "manifest", manifest_sha256, MODELS_INCOMING)
    yield StringCommand(f"{stored('manifest', manifest_sha256, f'manifests/{manifest}')}; rm -rf {MODELS_INCOMING}")


def stored(sent: str, sha256: str, path: str) -> str:
    """A script that moves an uploaded file to its place in Ollama's store, if the file has this SHA-256.

    The home folder and the store belong to the account ollama, so the script uses `below`.
    """
    home, _, store = STORE.rpartition("/")
    *folders, name = path.split("/")
    return (
        f"set -e; {inside(MODELS_INCOMING)}; echo {shlex.quote(sha256)} {sent} | sha256sum --check --quiet; "
        f"chown ollama:ollama {sent}; chmod 0644 {sent}; "
        f"{below(home, (store, *folders), 'ollama', 'ollama', '0755')}; "
        f"{into_place(f'{MODELS_INCOMING}/{sent}', f'./{shlex.quote(name)}')}"
    )


@operation()
def answers(model_name: str, manifest: str, context: int, port: int) -> Generator[StringCommand, None, None]:
    """Own that the model is in memory with a context of `context` tokens. It must generate one token as a proof.

    Ollama's health check is not enough: it succeeds even if Ollama cannot run any model.
    """
    loaded = ask(host, Ollama, manifest=manifest, port=port).loaded.get(model_name)
    if loaded == context:
        host.noop(f"{model_name} is loaded with a context of {context}")
        return
    why = f"it is loaded with a context of {loaded}, not {context}" if loaded else "it is not in memory"
    differs(Change(f"model {model_name}", "asked for a token", why))
    yield StringCommand(token(model_name, context, str(port)))


def token(model_name: str, context: int, port: str) -> str:
    """A script that has the model generate one token, and fails if it does not. `port`: a number, or a variable of the
    shell."""
    asked = {
        "model": model_name,
        "prompt": "Hello",
        "stream": False,
        "keep_alive": LOADED_FOR,
        # The same value as in OpenClaw's requests. Ollama loads a model for one value of `shift`; with another value,
        # OpenClaw's first message would make Ollama load the model again.
        "shift": False,
        "options": {"num_ctx": context, "num_predict": 1},
    }
    return (
        f"said=$(curl --disable --silent --show-error --max-time {time_limits.TOKEN} "
        f"http://127.0.0.1:{port}/api/generate -d {shlex.quote(json.dumps(asked))}); "
        # eval_count is the number of tokens that the model has generated.
        """printf %s "$said" | grep -q '"eval_count":[1-9]' || """
        f'{{ echo {shlex.quote(f"Ollama does not answer with {model_name}:")} "$said" >&2; exit 1; }}'
    )
