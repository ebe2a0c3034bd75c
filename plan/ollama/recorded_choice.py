"""The record of a choice that the deployment leaves on a model host, so that a verification knows what to expect.

The choice itself also depends on what could be reached and how much disk was free at that moment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plan.engine.errors import STRANGE, shown
from plan.ollama.catalogue import CATALOGUE
from plan.ollama.model_choice import Choice

#: Where the record is kept.
RECORD = "/etc/private-ai/model.json"


@dataclass(frozen=True)
class Chosen:
    """A choice as recorded, and the digest (sha256, hexadecimal) of the manifest that was laid down."""

    choice: Choice
    manifest_sha256: str


def record(choice: Choice, manifest_sha256: str) -> dict[str, Any]:
    """The record of a choice: the same for the same model and context, whatever led to it."""
    return {
        "model": choice.entry.name,
        "context": choice.context,
        "place": choice.place,
        "need_gib": round(choice.need_gib, 2),
        "budget_gib": round(choice.budget_gib, 2),
        "manifest_sha256": manifest_sha256,
    }


def recorded_place(text: str) -> str:
    """Where the model of a record runs, "VRAM" or "RAM"; "" for no record, and for one that is not understood."""
    try:
        return str(json.loads(text)["place"])
    except STRANGE:
        return ""


def chosen(found: Mapping[str, Any]) -> Chosen:
    """The choice of a record. Raises ValueError for one that is not understood or names a model nobody knows."""
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
