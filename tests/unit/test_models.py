"""The model choice: the promised size classes, the context, refusals with numbers, and the page that shows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plan.engine.errors import SettingError
from plan.ollama.catalogue import CATALOGUE
from plan.ollama.model_choice import SMALLEST, Choice, choose, markdown_table, smallest_with_tools
from plan.ollama.model_fit import (
    COMFORTABLE_CONTEXT,
    MIN_CONTEXT,
    Hardware,
    ram_budget_gib,
    ram_for_budget_gib,
    smallest_ram_gib,
)
from plan.ollama.recorded_choice import memory_to_count, record
from plan.openclaw.model_entry import gateway_limits

PAGE = Path(__file__).parents[2] / "docs" / "model-choice.md"


def pick(
    ram: float,
    vram: float = 0.0,
    disk: float = 1000.0,
    context: int | None = None,
    named: str | None = None,
    registry: bool = True,
    present: tuple[str, ...] = (),
) -> Choice:
    hardware = Hardware(ram_gib=ram, vram_gib=vram, disk_free_gib=disk, cpus=4)
    return choose(hardware, wanted_context=context, named=named, registry_reachable=registry, present=present)


@pytest.mark.parametrize(
    ("ram", "vram", "name", "context"),
    [
        (3, 0, "smollm2:135m", 8192),
        (4, 0, "qwen3.5:0.8b", 32768),
        (6, 0, "qwen3.5:4b", 8192),
        (7.6, 0, "qwen2.5:7b", 8192),
        (8, 0, "qwen2.5:7b", 16384),
        (12, 0, "qwen3.5:9b", 32768),
        (15.5, 0, "qwen3:14b", 16384),
        (16, 0, "qwen3:14b", 16384),
        (24, 0, "gpt-oss:20b", 32768),
        (36, 0, "qwen3.6:35b", 32768),
        (64, 0, "qwen3.6:35b", 32768),
        (96, 0, "gpt-oss:120b", 32768),
        (128, 0, "qwen3.5:122b", 32768),
        (64, 4, "qwen3.6:35b", 32768),
        (64, 6, "qwen3.5:4b", 32768),
        (64, 8, "qwen2.5:7b", 32768),
        (64, 12, "qwen3.5:9b", 32768),
        (64, 16, "gpt-oss:20b", 24576),
        (64, 24, "qwen3.6:27b", 32768),
        (64, 32, "qwen3.6:35b", 32768),
        (64, 80, "gpt-oss:120b", 32768),
    ],
)
def test_choice_by_memory(ram: float, vram: float, name: str, context: int) -> None:
    choice = pick(ram, vram)
    assert (choice.entry.name, choice.context) == (name, context)
    assert choice.need_gib <= choice.budget_gib
    assert name in choice.why
    assert f"{choice.need_gib:.1f} GiB" in choice.why
    assert str(context) in choice.why


@pytest.mark.parametrize(("ram", "low", "high"), [(8, 7, 8), (16, 13, 15), (36, 32, 36)])
def test_promised_classes(ram: float, low: float, high: float) -> None:
    assert low <= pick(ram).entry.parameters_b <= high


def test_dense_32b_fits_36_gib_when_named() -> None:
    choice = pick(36, named="qwen3:32b")
    assert (choice.context, round(choice.need_gib, 1), choice.budget_gib) == (24576, 25.4, 27.0)
    assert "slow on a processor" in choice.why


def test_need_by_hand() -> None:
    # 9.3e9 bytes = 8.661 GiB; 160 KiB x 16384 = 2.5 GiB; 0.5 + 0.2 GiB buffers.
    assert pick(16).need_gib == pytest.approx(8.661 + 2.5 + 0.7, abs=0.001)


def test_the_ram_that_a_budget_needs_gives_this_budget_and_no_smaller_one_does() -> None:
    for budget in (0.5, 6.0, 11.9, 12.0, 12.1, 27.0, 96.0):
        needed = ram_for_budget_gib(budget)
        assert ram_budget_gib(needed) == pytest.approx(budget)
        assert ram_budget_gib(needed - 0.1) < budget
    assert ram_for_budget_gib(12.0) == 14.0


def test_more_ram_never_means_less() -> None:
    sizes = [size / 4 for size in range(12, 600)]
    budgets = [ram_budget_gib(size) for size in sizes]
    assert budgets == sorted(budgets)
    parameters = [pick(size).entry.parameters_b for size in sizes]
    # There is one exception on purpose: if a larger model would have too small a context.
    drops = [size for size, a, b in zip(sizes[1:], parameters, parameters[1:], strict=False) if b < a]
    assert all(pick(size - 0.25).context < pick(size).context for size in drops)


@pytest.mark.parametrize(
    ("ram", "context", "name"),
    [
        (16, 32768, "qwen3.5:9b"),
        (16, 65536, "qwen3.5:9b"),
        (36, 131072, "qwen3.6:35b"),
        (8, 65536, "qwen3.5:4b"),
    ],
)
def test_a_wanted_context_is_kept_and_the_model_gives_way(ram: float, context: int, name: str) -> None:
    choice = pick(ram, context=context)
    assert (choice.entry.name, choice.context) == (name, context)


def test_small_disk_means_a_smaller_model_and_says_so() -> None:
    choice = pick(36, disk=8.0)
    assert choice.entry.download_gib + 2 <= 8.0
    assert choice.disk_need_gib <= 8.0
    assert "this host has 8.0" in choice.next_larger


def test_next_larger_names_model_memory_and_disk() -> None:
    assert "gpt-oss:20b" in pick(16).next_larger
    assert "GiB RAM or" in pick(16).next_larger
    assert pick(128).next_larger.startswith("No larger model")


def test_without_registry_the_packaged_model_or_what_is_there() -> None:
    choice = pick(64, registry=False)
    assert choice.entry.name == "smollm2:135m"
    assert "registry cannot be reached" in choice.why
    assert "registry within reach" in choice.next_larger
    assert pick(64, registry=False, present=("qwen3:14b",)).entry.name == "qwen3:14b"


def test_a_small_model_for_want_of_the_registry_is_warned_of_with_what_would_fit() -> None:
    warning = pick(16, registry=False).warning
    assert "the model is smollm2:135m" in warning and "qwen3:14b (14.8B, Q4_K_M) would fit" in warning
    assert "ollama_model" in warning and "Next: " in warning
    # There is no warning if the right model is there, if a model is named, or if no larger one fits into memory.
    assert pick(16).warning == pick(16, registry=False, present=("qwen3:14b",)).warning == ""
    assert pick(16, registry=False, named=SMALLEST).warning == pick(3, registry=False).warning == ""


def test_a_second_run_on_a_full_disk_keeps_its_model() -> None:
    choice = pick(16, disk=1.0, registry=False, present=("qwen3:14b",))
    assert (choice.entry.name, choice.disk_need_gib) == ("qwen3:14b", 0.0)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"ram": 16, "named": "qwen3:32b"}, ["ollama_model", "21.4 GiB", "12.0 GiB", "29 GiB RAM"]),
        ({"ram": 16, "vram": 8, "named": "qwen3:32b"}, ["RAM leave 12.0", "VRAM leave 7.4"]),
        ({"ram": 16, "disk": 5, "named": "qwen3:14b"}, ["10.7 GiB", "5.0 GiB are free"]),
        ({"ram": 64, "context": 65536, "named": "qwen3:14b"}, ["ollama_context", "65536", "40960"]),
        ({"ram": 16, "context": 32768, "named": "qwen3:14b"}, ["5.0 GiB cache", "14.4 GiB"]),
        ({"ram": 16, "named": "qwen3:14"}, ["nearest: qwen3:14b"]),
        ({"ram": 16, "named": "smalest"}, ["nearest: smallest"]),
        ({"ram": 16, "named": "nonsense"}, ["nearest: ", "docs/model-choice.md"]),
        ({"ram": 16, "named": "qwen3:14b", "registry": False}, ["cannot be reached", "smollm2:135m"]),
        ({"ram": 16, "context": 4096}, ["ollama_context", "4096", "8192"]),
        ({"ram": 16, "context": 10**7}, ["ollama_context", "qwen3:14b with a context of 16384"]),
        ({"ram": 16, "context": 32768, "registry": False}, ["ollama_context", "smollm2:135m with a context of 8192"]),
        ({"ram": 2}, ["RAM and disk", "2.0 GiB RAM", "smollm2:135m", "model_hosts"]),
        ({"ram": 2, "context": 16384}, ["RAM and disk"]),
        ({"ram": 64, "disk": 1}, ["1.0 GiB disk free"]),
    ],
)
def test_refusals_give_the_numbers(keywords: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        pick(**keywords)  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)


def test_limits_for_the_gateway() -> None:
    tiny = gateway_limits(pick(64, registry=False))
    assert (tiny.context, tiny.max_tokens, tiny.temperature, tiny.repeat_penalty) == (8192, 96, 0.1, 1.15)
    assert (tiny.context_injection, tiny.tools) == ("never", False)
    small = gateway_limits(pick(4))
    assert (small.max_tokens, small.temperature, small.context_injection) == (1024, None, "never")
    large = gateway_limits(pick(16))
    assert (large.context, large.max_tokens, large.context_injection) == (16384, 2048, None)


@pytest.mark.parametrize("ram", [3, 4, 8, 16, 24, 36, 64, 128])
def test_an_answer_leaves_room_for_the_question(ram: float) -> None:
    choice = pick(ram)
    limits = gateway_limits(choice)
    assert limits.context == choice.context
    assert 0 < limits.max_tokens <= choice.context // 8


def test_catalogue_is_sound() -> None:
    names = [entry.name for entry in CATALOGUE]
    assert len(set(names)) == len(names)
    sizes = [entry.parameters_b for entry in CATALOGUE]
    assert sizes == sorted(sizes)
    for entry in CATALOGUE:
        assert entry.max_context >= MIN_CONTEXT
        assert 0 < entry.active_parameters_b <= entry.parameters_b
        # Four to nine bits for each parameter, with the vision projector. This finds a size in the wrong unit.
        assert 0.45 < entry.download_gib / entry.parameters_b < 1.3
    for low, high in ((7, 8), (13, 15), (32, 34)):
        assert any(low <= entry.parameters_b <= high for entry in CATALOGUE)
    assert COMFORTABLE_CONTEXT > MIN_CONTEXT
    assert smallest_with_tools().name == "qwen3.5:0.8b"
    assert 2.5 < smallest_ram_gib() < 3


def test_the_page_shows_what_the_code_chooses() -> None:
    assert markdown_table() in PAGE.read_text(encoding="utf-8")


def in_record(ram_mib: int, vram_mib: int = 0) -> str:
    choice = pick(ram_mib / 1024, vram_mib / 1024)
    return json.dumps(record(choice, "ab", (ram_mib, vram_mib)))


@pytest.mark.parametrize(
    ("then", "now"),
    [
        # A machine with 8 GB near a limit: 7.75 GiB has a context of 12288, 7.73 GiB one of 8192.
        ((7936, 0), (7916, 0)),
        # One with 32 GB: 31.09 GiB has a model of 22 GiB, 31.07 GiB has another one.
        ((31836, 0), (31816, 0)),
        # With `crashkernel=256M`.
        ((15872, 0), (15616, 0)),
        ((65536, 24576), (65000, 24564)),
    ],
)
def test_another_kernel_changes_no_model(then: tuple[int, int], now: tuple[int, int]) -> None:
    for first, second in ((then, now), (now, then)):
        assert memory_to_count(in_record(*first), second) == first
    # Without the record, the first two would get another context or another model.
    if then[0] < 15000 or 31000 < then[0] < 32000:
        kinds = {(choice.entry.name, choice.context) for choice in (pick(then[0] / 1024), pick(now[0] / 1024))}
        assert len(kinds) == 2


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ((7936, 0), (15872, 0)),
        # A container whose limit was lowered, a card that was put in, and one that was taken out.
        ((8192, 0), (6144, 0)),
        ((15872, 0), (15872, 12288)),
        ((15872, 12288), (15872, 0)),
    ],
)
def test_other_hardware_is_counted_as_it_is(then: tuple[int, int], now: tuple[int, int]) -> None:
    assert memory_to_count(in_record(*then), now) == now


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"model": "qwen2.5:7b"}', '{"ram_mib": "much", "vram_mib": 0}'])
def test_without_a_record_the_memory_is_that_of_now(text: str) -> None:
    assert memory_to_count(text, (7936, 0)) == (7936, 0)
