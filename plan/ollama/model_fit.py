"""Calculates whether a model fits a host, and with which context.

need = weights + cache + compute buffers + process, in GiB (llama.cpp and Ollama 0.32, one slot, f16 cache):

- weights: the size of the download. Since Ollama 0.30 weights are not memory-mapped on a processor, so all are in RAM;
- cache: kv_kib_per_token x context / 2^20;
- compute buffers at batch size 512: 0.3 up to 4B, 0.5 up to 15B, 0.6 above (measured range 0.3-0.6);
- process: 0.2, on a GPU 0.5 for the CUDA context.

The model fits when the need is at most the budget. The budget is 0.75 x RAM from 16 GiB on, RAM - 2 GiB below, and
0.92 x VRAM. The system, OpenClaw's Node process and the page cache use the rest of the RAM. From 14 to 16 GiB the
budget is 12 GiB, as at 16, because the kernel of a "16 GB" machine shows about 15.5.
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
"""Disk space that stays free in addition to the model: for logs, package updates, and files of Ollama's store."""


@dataclass(frozen=True)
class Hardware:
    """A model host's hardware, GiB. `ram_gib`: the kernel's MemTotal. `vram_gib`: the GPUs' total memory (not the free
    part, because on a second run our own model is in it). `disk_free_gib`: free space in the model store."""

    ram_gib: float
    disk_free_gib: float
    vram_gib: float = 0.0
    cpus: int = 1


def rank(entry: CatalogueEntry) -> tuple[bool, float]:
    """The key by which models are compared: a model with tools is better, then the larger one."""
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
    """The arguments of choose(), and values that are calculated from them."""

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
        """The model with the largest context that fits. If the user wants a context, only that one is tried."""
        for context in CONTEXT_STEPS if self.wanted_context is None else (self.wanted_context,):
            if context <= entry.max_context and entry.need_gib(context, place) <= self.budget(place):
                return Fit(entry, place, context)
        return None


def ram_budget_gib(ram_gib: float) -> float:
    """GiB of RAM that a model may use; see the module's docstring."""
    return max(0.0, min(ram_gib - 2.0, 12.0)) if ram_gib < 16 else 0.75 * ram_gib


def ram_for_budget_gib(budget_gib: float) -> float:
    """GiB of RAM that a host needs so that a model may use `budget_gib`. The reverse of ram_budget_gib."""
    return budget_gib + 2.0 if budget_gib <= 12 else budget_gib / 0.75


def smallest_ram_gib(catalogue: Sequence[CatalogueEntry] = CATALOGUE) -> float:
    """GiB of RAM below which no model of the catalogue fits."""
    return min(entry.need_gib(MIN_CONTEXT, "RAM") for entry in catalogue) + 2.0


def memory_for(entry: CatalogueEntry, context: int) -> str:
    """The smallest memory with which a model gets this context, in words."""
    ram = math.ceil(ram_for_budget_gib(entry.need_gib(context, "RAM")))
    return f"{ram} GiB RAM or {math.ceil(entry.need_gib(context, 'VRAM') / 0.92)} GiB VRAM"


def sum_in_words(fit: Fit) -> str:
    """The memory that a model needs, part by part, in words."""
    entry = fit.entry
    return (
        f"{entry.download_gib:.1f} GiB weights + {entry.cache_gib(fit.context):.1f} GiB cache for a "
        f"context of {fit.context} + {entry.buffers_gib(fit.place):.1f} GiB buffers = "
        f"{entry.need_gib(fit.context, fit.place):.1f} GiB"
    )
