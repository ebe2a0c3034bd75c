"""Checks of the model server: it has the chosen model, undamaged, with the right context, and uses no cloud."""

from __future__ import annotations

from typing import Any

from plan.house.house import Member
from plan.ollama.recorded_choice import RECORD, chosen
from plan.openclaw.configuration import ollama_host
from tests.verify.ledger import Check
from tests.verify.probing import Probing
from tests.verify.state import STORE, HostState


def _served(state: HostState) -> dict[str, str]:
    """Model -> digest of its manifest, from Ollama's answer."""
    return {each["name"]: each["digest"] for each in (state["models"].json() or {}).get("models") or ()}


def test_files(model_host: Member, probing: Probing, check: Check) -> None:
    """Every file of the models is there and has the digest in its name, and Ollama serves the models on the disk."""
    lines = [line.split(None, 1) for line in probing.model_files(model_host.name).splitlines()]
    blobs = {name.strip(): digest for digest, name in lines if name.startswith("sha256-")}
    manifests = {model_of(name): digest for digest, name in lines if name.startswith("./")}
    # A download that has not ended yet is not served.
    bad = [name for name, digest in blobs.items() if name != f"sha256-{digest}" and "-partial" not in name]
    lost = [digest for name, digest in lines if name == "named" and digest.strip().replace(":", "-") not in blobs]
    served = _served(probing.state(model_host.name))
    check(
        bool(served) and served == manifests and bool(blobs) and not bad and not lost,
        source=model_host.name,
        target="itself",
        expected="Ollama serves the manifests on disk, and every file has the digest in its name",
        observed=f"served: {served or 'none'}; on disk: {manifests or 'none'}; {len(blobs)} files, damaged: {bad}, "
        f"missing: {lost}",
        remedy=f"on {model_host.name}: remove the damaged files from {STORE}/blobs; run the deployment again",
    )


def model_of(path: str) -> str:
    """Ollama's name for a manifest ./REGISTRY/NAMESPACE/NAME/TAG: only NAME:TAG in Ollama's own library."""
    name, _, tag = path.removeprefix("./").rpartition("/")
    return f"{name.removeprefix('registry.ollama.ai/').removeprefix('library/')}:{tag}"


def test_model(model_host: Member, probing: Probing, check: Check) -> None:
    """The model host serves, and the gateway uses, the model that the deployment chose, and not another of that
    name."""
    state = probing.state(model_host.name)
    served = _served(state)
    try:
        record = chosen(state["chosen"].json() or {})
        wanted, why = {record.choice.entry.name: record.manifest_sha256}, record.choice.why
    except ValueError as error:
        wanted, why = {}, str(error)
    used = {name: [each["model"] for each in asked] for name, asked in _asked(probing, model_host).items()}
    check(
        bool(wanted) and wanted.items() <= served.items() and all(models == list(wanted) for models in used.values()),
        source=model_host.name,
        target="itself",
        expected=f"{wanted or 'a record of the choice'}, used by {', '.join(used)} ({why})",
        observed=f"served: {served or 'none'}; asked for: {used}",
        remedy=f"run the deployment again; see {RECORD} on {model_host.name} and ollama_model in group_data/all.py",
    )


def _asked(probing: Probing, model_host: Member) -> dict[str, list[dict[str, Any]]]:
    """Gateway -> the models of this host in the gateway's present configuration."""
    return {
        gateway.name: [
            each
            for each in probing.container(gateway.name)["providers"]
            if f"//{ollama_host(gateway, model_host)}:" in each["url"]
        ]
        for gateway in probing.house.gateways
    }


def test_context(model_host: Member, probing: Probing, check: Check) -> None:
    """The model is in memory, with the context length in the gateway's configuration.

    With a shorter context, the agent's own prompt takes the place of the conversation, and the model forgets it.
    """
    asked = _asked(probing, model_host)
    wanted = {each["model"]: each["context"] for models in asked.values() for each in models}
    loaded = probing.loaded(model_host.name)
    check(
        bool(wanted) and wanted.items() <= loaded.items(),
        source=" ".join(asked),
        target=model_host.name,
        expected=f"in memory, with the context of openclaw.json: {wanted or 'a model of this host'}",
        observed=loaded or "no model in memory",
        remedy="run the deployment again: it sets the same number in both places and loads the model",
    )


def test_settings(model_host: Member, probing: Probing, check: Check) -> None:
    """The running model server listens on loopback, has its cloud features off, and does not remove models by
    itself."""
    state, port = probing.state(model_host.name), probing.house.port("ollama")
    environment = state.environment("ollama")
    context = (state["chosen"].json() or {}).get("context")
    wanted = {
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_MODELS": STORE,
        "OLLAMA_CONTEXT_LENGTH": str(context),
    }
    bad = [f"{name}={environment.get(name, '')}" for name, value in wanted.items() if environment.get(name) != value]
    check(
        not bad,
        source=model_host.name,
        target="itself",
        expected=f"the running server's environment: {', '.join(f'{name}={value}' for name, value in wanted.items())}",
        observed=", ".join(bad) or "as expected",
        remedy=f"run the deployment again; on {model_host.name}: systemctl cat ollama",
    )
