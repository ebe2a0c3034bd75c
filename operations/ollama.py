"""Lay a model down in Ollama's store, and have it answer."""

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

#: How long the model stays in memory after the deployment has loaded it: ten years. Not for ever, as after a message of
#: OpenClaw, so that the gateway can tell that the model has not read the system prompt yet (templates/openclaw).
LOADED_FOR = "87600h"


def asks(manifest: str, port: int) -> None:
    """Say in advance that both operations below are going to ask for this model's state."""
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
    copied from there; a link would leave what is served to the owner of the file. Every blob is checked against its
    digest on the host before it is moved into place, the manifest last. What is sent lies on the disk of the store
    from its first byte, for root alone until it is whole. An interrupted run goes on with what is missing.
    """
    seen = ask(host, Ollama, manifest=manifest, port=port)
    missing = [(digest, size, file) for digest, size, file in blobs if seen.blobs.get(digest) != size]
    if not missing and seen.manifest == manifest_sha256:
        if not seen.begun:
            host.noop(f"{model_name} is there")
            return
        differs(Change(MODELS_INCOMING, "removed", "a run that was cut off has left it"))
        yield StringCommand(f"rm -rf {MODELS_INCOMING}")
        return
    count = f"{len(missing)} of {len(blobs)} files are missing or cut short"
    why = count if missing else "its manifest is missing or another"
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
    """A script that moves a file that was sent to its place below Ollama's store, if it has this SHA-256.

    Home and store are the account's own, see `below`.
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
    """Have the model in memory with `context` tokens, shown by one token that it generates.

    Ollama answers its health check also when it cannot run any model.
    """
    loaded = ask(host, Ollama, manifest=manifest, port=port).loaded.get(model_name)
    if loaded == context:
        host.noop(f"{model_name} is loaded with a context of {context}")
        return
    why = f"it is loaded with a context of {loaded}, not {context}" if loaded else "it is not in memory"
    differs(Change(f"model {model_name}", "asked for a token", why))
    asked = {
        "model": model_name,
        "prompt": "Hello",
        "stream": False,
        "keep_alive": LOADED_FOR,
        # As OpenClaw asks: the way to treat a full context is one of those with which a model is loaded, and with
        # another one its first message would have it loaded again.
        "shift": False,
        "options": {"num_ctx": context, "num_predict": 1},
    }
    yield StringCommand(
        f"said=$(curl --disable --silent --show-error --max-time {time_limits.TOKEN} "
        f"http://127.0.0.1:{port}/api/generate -d {shlex.quote(json.dumps(asked))}); "
        # eval_count is the number of tokens the model made.
        """printf %s "$said" | grep -q '"eval_count":[1-9]' || """
        f'{{ echo {shlex.quote(f"Ollama does not answer with {model_name}:")} "$said" >&2; exit 1; }}'
    )
