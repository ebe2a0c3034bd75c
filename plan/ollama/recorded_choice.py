"""The record of the model choice, which the deployment writes on a model host. The verification reads it.

The verification cannot choose again: the choice also depends on what the run could reach and on free disk space then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plan.engine.errors import STRANGE, shown
from plan.ollama.catalogue import CATALOGUE
from plan.ollama.model_choice import Choice

#: The file of the record on the host.
RECORD = "/etc/private-ai/model.json"

#: A difference in memory up to this share changes nothing. Another kernel, or a setting of it such as `crashkernel`,
#: takes some more or less memory for itself, and near a limit of the choice a few MiB would mean another context, or
#: another model of gigabytes. What the choice leaves free for other programs is much more.
SLACK = 0.03


@dataclass(frozen=True)
class Chosen:
    """A choice from a record, and the digest (sha256, hexadecimal) of the model's manifest on the host."""

    choice: Choice
    manifest_sha256: str


def record(choice: Choice, manifest_sha256: str, memory_mib: tuple[int, int]) -> dict[str, Any]:
    """The record of a choice. `memory_mib`: RAM and VRAM for which it was made. The same model, context and memory give
    the same record; the reason is not in it."""
    return {
        "model": choice.entry.name,
        "context": choice.context,
        "place": choice.place,
        "need_gib": round(choice.need_gib, 2),
        "budget_gib": round(choice.budget_gib, 2),
        "ram_mib": memory_mib[0],
        "vram_mib": memory_mib[1],
        "manifest_sha256": manifest_sha256,
    }


def memory_to_count(text: str, now_mib: tuple[int, int]) -> tuple[int, int]:
    """RAM and VRAM, MiB, for which to choose a model. `text` is the record on the host, "" for none. If the memory is
    about what it was when the recorded choice was made, it is the memory of the record, so the choice is the same."""
    try:
        found = json.loads(text)
        then = int(found["ram_mib"]), int(found["vram_mib"])
    except STRANGE:
        return now_mib
    alike = all(abs(was - now) <= SLACK * now for was, now in zip(then, now_mib, strict=True))
    return then if alike else now_mib


def recorded_model(text: str) -> tuple[str, int] | None:
    """Name and context of the model of a record; None when there is no record, or when it cannot be read."""
    try:
        found = json.loads(text)
        return str(found["model"]), int(found["context"])
    except STRANGE:
        return None


def recorded_place(text: str) -> str:
    """Where the model of a record runs: "VRAM" or "RAM"; "" when there is no record, or when it cannot be read."""
    try:
        return str(json.loads(text)["place"])
    except STRANGE:
        return ""


def chosen(found: Mapping[str, Any]) -> Chosen:
    """The choice of a record. Raises ValueError when the record cannot be read, or names a model that is not in the
    catalogue."""
    try:
        entry = next((entry for entry in CATALOGUE if entry.name == found["model"]), None)
        if entry is None:
            raise ValueError(f"no model {found['model']!r} in plan/ollama/catalogue.py")
        context, need, budget = int(found["context"]), float(found["need_gib"]), float(found["budget_gib"])
        why = (
            f"{entry.title()} with a context of {context} tokens: needs {need:.1f} GiB of the {budget:.1f} GiB that "
            f"{found['place']} leaves for a model"
        )
        choice = Choice(entry, context, found["place"], need, budget, 0.0, why, "")
        return Chosen(choice, str(found["manifest_sha256"]))
    except STRANGE as error:
        raise ValueError(f"the record of the model's choice is not understood: {shown(error)}") from error
