"""Which model a host gets, with which context, and why.

The context. OpenClaw's set-up uses 32768 tokens, calls 16384 the practical minimum and warns below 8192. With this
project's configuration its system prompt was measured at 2447 tokens. So 8192 leaves some 5000 tokens for a first
message and its answer; OpenClaw begins to summarise older messages at three quarters, 6144 tokens. 8192 is the minimum
here. The choice begins with 32768, and reduces it in steps.

What is reduced first. The context, down to 16384: a larger model follows instructions and calls tools more reliably,
and few household conversations need more than 16384 tokens. Below 16384, a smaller context is a loss too. Then a
smaller model with 16384 is taken if it has at least three fifths of the parameters (27B instead of 32B on a 24 GB GPU);
otherwise the larger model is taken (7B instead of 4B on 8 GB). A context that the user asks for is never reduced: then
a smaller model is taken.

On a processor, a token takes as long as reading the active weights from memory. At 40 GB/s (two channels of DDR4) a
dense 14B model makes about 4 tokens a second and 27B about 2. Reading a prompt slows down in the same proportion. So a
dense model above 15B is used on a processor only if somebody names it; a mixture of experts is also chosen
automatically.

The classes that people know (7-8B at Q4 for 8 GB, 13-14B for 16 GB, 32-34B for 36 GB) count the weights and a short
context. With the arithmetic of plan/ollama/model_fit.py, 7.6B fits 8 GiB with 16384, 14.8B fits 16 GiB with 16384, and
a dense 32.8B fits 36 GiB with 24576. For 36 GiB the choice is the 35B mixture: it gets 32768, has more parameters, and
is ten times as fast.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from plan.engine.errors import SettingError
from plan.ollama.catalogue import CATALOGUE, CatalogueEntry, Place
from plan.ollama.model_fit import (
    COMFORTABLE_CONTEXT,
    DISK_RESERVE_GIB,
    MIN_CONTEXT,
    Fit,
    Hardware,
    Question,
    memory_for,
    rank,
    sum_in_words,
)

MOST_CONTEXT = 2**31 - 1
"""More than any model has. Whether a context fits the model is checked later, with an error that has the numbers."""
COMFORTABLE_SHARE = 0.6
CPU_ACTIVE_LIMIT_B = 15.0
GPU_WORTH_B = 4.0
"""If a model of this size or larger fits into the GPU, the model runs there, even if a larger one fits into RAM. This
is the size of the smallest model with fair tool use."""
SMALLEST = "smallest"
"""The demo's value of the setting: the smallest model with tools. Without Ollama's registry: the model of the
package."""
MODEL_SETTING = "group_data/all.py: ollama_model"
CONTEXT_SETTING = "group_data/all.py: ollama_context"


@dataclass(frozen=True)
class Choice:
    """The chosen model. `context` in tokens; `need_gib` and `budget_gib` of the memory in `place`; `disk_need_gib`:
    disk space still needed, 0 when the model is on the host already; `why` and `next_larger`: one sentence each;
    `warning`: "" for none."""

    entry: CatalogueEntry
    context: int
    place: Place
    need_gib: float
    budget_gib: float
    disk_need_gib: float
    why: str
    next_larger: str
    warning: str = ""

    @property
    def needs_registry(self) -> bool:
        """Whether the model must come from Ollama's registry, because it is neither on the host nor in a package."""
        return self.disk_need_gib > 0 and self.entry.source != "package"


def smallest_with_tools(catalogue: Sequence[CatalogueEntry] = CATALOGUE) -> CatalogueEntry:
    """The demo's model when Ollama's registry can be reached."""
    return min((entry for entry in catalogue if entry.tools), key=lambda entry: entry.parameters_b)


def choose(
    hardware: Hardware,
    *,
    wanted_context: int | None,
    named: str | None,
    registry_reachable: bool,
    present: Collection[str] = (),
    catalogue: Sequence[CatalogueEntry] = CATALOGUE,
) -> Choice:
    """The model for this host.

    `wanted_context` (tokens) and `named` are the user's settings, None for none. The result has exactly these values,
    or the function refuses them. `named` may be SMALLEST. `present`: the models that the host already has; they need
    neither registry nor disk space, so a second run makes the same choice as the first. Raises SettingError when no
    model fits, or when a setting cannot be met.
    """
    # isinstance(True, int) is true in Python, and somebody may write True, so this compares the type itself.
    if wanted_context is not None and not (
        type(wanted_context) is int and MIN_CONTEXT <= wanted_context <= MOST_CONTEXT
    ):
        raise SettingError(
            CONTEXT_SETTING,
            wanted_context,
            f"a whole number of tokens from {MIN_CONTEXT} (the agent's own prompt takes about 2500) to {MOST_CONTEXT}",
            f"set {MIN_CONTEXT} or more, or remove the setting",
        )
    if named is not None and not isinstance(named, str):
        raise SettingError(
            MODEL_SETTING,
            named,
            f"a name of plan/ollama/catalogue.py, or {SMALLEST!r}",
            "correct it, or remove the setting",
        )
    ask = Question(hardware, wanted_context, registry_reachable, present, catalogue)
    if named == SMALLEST:
        smallest = smallest_with_tools(catalogue)
        if not ask.obtainable(smallest):
            ask = replace(ask, catalogue=[entry for entry in catalogue if entry.source == "package"])
        named = smallest.name if ask.obtainable(smallest) and smallest in ask.catalogue else None
    if named is not None:
        fit = _named_fit(named, ask)
        reason = f"{fit.entry.title()} is named in the settings and fits"
    else:
        fit = _largest_fit(ask)
        reason = _reason(fit, ask)
    entry, place = fit.entry, fit.place
    slow = "" if _fast_enough(entry, place) else "; it will be slow on a processor"
    return Choice(
        entry=entry,
        context=fit.context,
        place=place,
        need_gib=entry.need_gib(fit.context, place),
        budget_gib=ask.budget(place),
        disk_need_gib=ask.disk_need(entry),
        why=f"{reason}: {sum_in_words(fit)}, of {ask.budget(place):.1f} GiB that {ask.size(place):.1f} GiB {place} "
        f"leave for a model{slow}.",
        next_larger=_next_larger(fit, ask),
        warning="" if registry_reachable or named is not None else _without_registry(entry, ask),
    )


def _without_registry(entry: CatalogueEntry, ask: Question) -> str:
    """A warning when a larger model would be chosen if Ollama's registry could be reached; else ""."""
    better = _largest_fit(replace(ask, registry_reachable=True)).entry
    if better == entry:
        return ""
    return (
        f"Ollama's registry cannot be reached, so the model is {entry.title()}; {better.title()} would fit. Next: end "
        f"this run with Ctrl-C, see that this computer reaches the internet, and run it again; or set ollama_model to "
        f"{entry.name!r} to keep this one"
    )


def markdown_table(sizes_gib: Sequence[float] = (4, 8, 16, 24, 36, 64, 128)) -> str:
    """The table of docs/model-choice.md: one row for each RAM size, without a GPU, with ample disk."""
    rows = ["| RAM | model | parameters | context | needs, of | download |", "|---|---|---|---|---|---|"]
    for size in sizes_gib:
        hardware = Hardware(ram_gib=size, disk_free_gib=1000)
        choice = choose(hardware, wanted_context=None, named=None, registry_reachable=True)
        rows.append(
            f"| {size:g} GB | `{choice.entry.name}` | {choice.entry.parameters()} | {choice.context} "
            f"| {choice.need_gib:.1f} of {choice.budget_gib:.1f} GiB | {choice.entry.download_gib:.1f} GiB |"
        )
    return "\n".join(rows)


def _fast_enough(entry: CatalogueEntry, place: Place) -> bool:
    return place == "VRAM" or entry.active_parameters_b <= CPU_ACTIVE_LIMIT_B


def _largest_fit(ask: Question) -> Fit:
    candidates = [entry for entry in ask.catalogue if ask.obtainable(entry) and ask.disk_holds(entry)]
    found = [fit for place in ask.places if (fit := _best(candidates, place, ask)) is not None]
    if not found:
        raise _nothing_fits(ask)
    for fit in found:
        if fit.place == "VRAM" and fit.entry.parameters_b >= GPU_WORTH_B:
            return fit
    return max(found, key=lambda fit: fit.rank)


def _best(candidates: Sequence[CatalogueEntry], place: Place, ask: Question) -> Fit | None:
    fits = [fit for entry in candidates if _fast_enough(entry, place) and (fit := ask.fit(entry, place)) is not None]
    if not fits:
        return None
    largest = max(fits, key=lambda fit: fit.rank)
    share = COMFORTABLE_SHARE * largest.entry.parameters_b
    roomy = [fit for fit in fits if fit.context >= COMFORTABLE_CONTEXT and fit.rank >= (largest.entry.tools, share)]
    return max(roomy or [largest], key=lambda fit: fit.rank)


def _named_fit(named: str, ask: Question) -> Fit:
    entry = next((entry for entry in ask.catalogue if entry.name == named), None)
    if entry is None:
        names = [entry.name for entry in ask.catalogue]
        raise SettingError(
            MODEL_SETTING,
            named,
            "a model of plan/ollama/catalogue.py, nearest: "
            + ", ".join(difflib.get_close_matches(named, [*names, SMALLEST], n=3, cutoff=0.5) or names),
            "correct the name, or add the model with its numbers to plan/ollama/catalogue.py (docs/model-choice.md)",
        )
    if ask.wanted_context is not None and ask.wanted_context > entry.max_context:
        raise SettingError(
            CONTEXT_SETTING,
            ask.wanted_context,
            f"at most {entry.max_context} tokens, which is the most that {named} can use",
            "lower the context, or name a model with a larger one",
        )
    if not ask.disk_holds(entry):
        raise SettingError(
            MODEL_SETTING,
            named,
            f"a model that fits on the disk: {named} needs {ask.disk_need(entry):.1f} GiB "
            f"({entry.download_gib:.1f} GiB download, {DISK_RESERVE_GIB:.1f} GiB kept free), "
            f"{ask.hardware.disk_free_gib:.1f} GiB are free",
            "free disk space, name a smaller model, or remove the setting",
        )
    fits = [fit for place in ask.places if (fit := ask.fit(entry, place)) is not None]
    if fits and not ask.obtainable(entry):
        packaged = ", ".join(other.name for other in ask.catalogue if other.source == "package")
        raise SettingError(
            MODEL_SETTING,
            named,
            f"a model that can be obtained without Ollama's registry, which cannot be reached: {packaged}",
            "make the registry reachable for this run, or name one of these",
        )
    if fits:
        return fits[0]
    context = MIN_CONTEXT if ask.wanted_context is None else ask.wanted_context
    numbers = "; ".join(
        f"{sum_in_words(Fit(entry, place, context))} but {ask.size(place):.1f} GiB {place} leave "
        f"{ask.budget(place):.1f} GiB"
        for place in ask.places
    )
    raise SettingError(
        MODEL_SETTING,
        named,
        f"a model that fits this host: {named} needs {numbers}",
        f"use a host with {memory_for(entry, context)}, name a smaller model, or remove the setting",
    )


def _nothing_fits(ask: Question) -> SettingError:
    if ask.wanted_context is not None:
        # If no model fits without this setting either, this call raises the error for that case.
        without = _largest_fit(replace(ask, wanted_context=None))
        return SettingError(
            CONTEXT_SETTING,
            ask.wanted_context,
            "a context that some model on this host can have; without the setting this host gets "
            f"{without.entry.name} with a context of {without.context}",
            "lower the context or remove the setting",
        )
    smallest = min(ask.catalogue, key=lambda entry: entry.need_gib(MIN_CONTEXT, "RAM"))
    return SettingError(
        "model host: RAM and disk",
        f"{ask.hardware.ram_gib:.1f} GiB RAM, {ask.hardware.vram_gib:.1f} GiB VRAM, "
        f"{ask.hardware.disk_free_gib:.1f} GiB disk free",
        f"at least what the smallest model, {smallest.name}, needs: {memory_for(smallest, MIN_CONTEXT)}, "
        f"{ask.disk_need(smallest):.1f} GiB disk",
        "put another host into the group model_hosts, or free disk space",
    )


def _reason(fit: Fit, ask: Question) -> str:
    title = fit.entry.title()
    if not ask.registry_reachable:
        where = "which comes in a package" if fit.entry.source == "package" else "which is on the host already"
        return f"Ollama's registry cannot be reached, so {title} is taken, {where}"
    if fit.place == "RAM" and len(ask.places) > 1:
        return f"{title} is the largest that fits in RAM; the GPU holds none of {GPU_WORTH_B:g}B or more"
    if fit.context >= COMFORTABLE_CONTEXT and ask.wanted_context is None:
        return f"{title} is the largest that fits with a context of at least {COMFORTABLE_CONTEXT}"
    return f"{title} is the largest that fits"


def _next_larger(fit: Fit, ask: Question) -> str:
    larger = [entry for entry in ask.catalogue if rank(entry) > fit.rank and _fast_enough(entry, fit.place)]
    if not larger:
        return "No larger model stands in the catalogue for this kind of hardware."
    entry = min(larger, key=rank)
    context = min(fit.context, entry.max_context)
    missing = "" if ask.obtainable(entry) else ", and Ollama's registry within reach"
    return (
        f"The next larger one, {entry.title()}, would need with a context of {context} "
        f"{memory_for(entry, context)}, and {ask.disk_need(entry):.1f} GiB of free disk "
        f"(this host has {ask.hardware.disk_free_gib:.1f}){missing}."
    )
