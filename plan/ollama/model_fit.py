"""Whether a model fits a host, with which context, by arithmetic.

need = weights + cache + compute buffers + process, in GiB (llama.cpp and Ollama 0.32, one slot, f16 cache):

- weights: the download; memory-mapping is off on a processor since Ollama 0.30, so all of it is resident;
- cache: kv_kib_per_token x context / 2^20;
- compute buffers at batch size 512: 0.3 up to 4B, 0.5 up to 15B, 0.6 above (measured range 0.3-0.6);
- process: 0.2, on a GPU 0.5 for the CUDA context.

It fits when need <= 0.75 x RAM from 16 GiB on, RAM - 2 GiB below (the system, OpenClaw's Node process and
the page cache live in the rest), or 0.92 x VRAM. Just under 16 GiB the budget stays at 12 GiB, as at 16,
because the kernel of a "16 GB" machine shows about 15.5.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from plan.ollama.catalogue import CATALOGUE, CatalogueEntry, Place

MIN_CONTEXT = 8192
COMFORTABLE_CONTEXT = 16384
CONTEXT_STEPS = (32768, 24576, COMFORTABLE_CONTEXT, 12288, MIN_CONTEXT)
DISK_RESERVE_GIB = 2.0
"""Kept free beside the model: logs, package updates, the store's own files."""


@dataclass(frozen=True)
class Hardware:
    """What a model host has, GiB. `ram_gib` is what the kernel calls MemTotal, `vram_gib` the GPUs' total
    (not the free part: on a second run our own model is in it), `disk_free_gib` that of the model store."""

    ram_gib: float
    disk_free_gib: float
    vram_gib: float = 0.0
    cpus: int = 1


def rank(entry: CatalogueEntry) -> tuple[bool, float]:
    """What makes one model better than another: tools, then size."""
    return entry.tools, entry.parameters_b


@dataclass(frozen=True)
class Fit:
    """A model that fits into a place, with its context in tokens."""

    entry: CatalogueEntry
    place: Place
    context: int

    @property
    def rank(self) -> tuple[bool, float]:
        return rank(self.entry)


@dataclass(frozen=True)
class Question:
    """The arguments of choose(), with what follows from them directly."""

    hardware: Hardware
    wanted_context: int | None
    registry_reachable: bool
    present: Collection[str]
    catalogue: Sequence[CatalogueEntry]

    @property
    def places(self) -> tuple[Place, ...]:
        return ("VRAM", "RAM") if self.hardware.vram_gib > 0 else ("RAM",)

    def size(self, place: Place) -> float:
        return self.hardware.ram_gib if place == "RAM" else self.hardware.vram_gib

    def budget(self, place: Place) -> float:
        return ram_budget_gib(self.size(place)) if place == "RAM" else 0.92 * self.size(place)

    def obtainable(self, entry: CatalogueEntry) -> bool:
        return self.registry_reachable or entry.source == "package" or entry.name in self.present

    def disk_need(self, entry: CatalogueEntry) -> float:
        return 0.0 if entry.name in self.present else entry.download_gib + DISK_RESERVE_GIB

    def disk_holds(self, entry: CatalogueEntry) -> bool:
        return self.disk_need(entry) <= self.hardware.disk_free_gib

    def fit(self, entry: CatalogueEntry, place: Place) -> Fit | None:
        """The model with the largest context that fits; only with the wanted one if there is a wish."""
        for context in CONTEXT_STEPS if self.wanted_context is None else (self.wanted_context,):
            if context <= entry.max_context and entry.need_gib(context, place) <= self.budget(place):
                return Fit(entry, place, context)
        return None


def ram_budget_gib(ram_gib: float) -> float:
    """GiB of RAM a model may take; see the module's docstring."""
    return max(0.0, min(ram_gib - 2.0, 12.0)) if ram_gib < 16 else 0.75 * ram_gib


def ram_for_budget_gib(budget_gib: float) -> float:
    """GiB of RAM of which so much may be a model's."""
    return budget_gib + 2.0 if budget_gib < 12 else budget_gib / 0.75


def smallest_ram_gib(catalogue: Sequence[CatalogueEntry] = CATALOGUE) -> float:
    """GiB of RAM below which no model of the catalogue fits."""
    return min(entry.need_gib(MIN_CONTEXT, "RAM") for entry in catalogue) + 2.0


def memory_for(entry: CatalogueEntry, context: int) -> str:
    """The smallest memory for a model with a context, in words."""
    in_ram = entry.need_gib(context, "RAM")
    ram = math.ceil(in_ram + 2.0 if in_ram <= 12 else in_ram / 0.75)
    return f"{ram} GiB RAM or {math.ceil(entry.need_gib(context, 'VRAM') / 0.92)} GiB VRAM"


def sum_in_words(fit: Fit) -> str:
    """What a model takes, part by part."""
    entry = fit.entry
    return (
        f"{entry.download_gib:.1f} GiB weights + {entry.cache_gib(fit.context):.1f} GiB cache for a "
        f"context of {fit.context} + {entry.buffers_gib(fit.place):.1f} GiB buffers = "
        f"{entry.need_gib(fit.context, fit.place):.1f} GiB"
    )
