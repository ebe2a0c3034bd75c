"""Room for the model: if other programs use too much memory or disk, the run says so before it sends anything."""

from __future__ import annotations

from dataclasses import replace

from plan.base.capabilities import FOLDERS, Disk
from plan.base.memory_and_disks import disk_needs, libraries_room, model_room
from plan.base.profile import Profile
from plan.ollama.model_choice import Choice, choose
from plan.ollama.model_fit import Hardware
from tests.unit.houses import single
from tests.unit.test_preflight import GOOD

HOME = single().member("home")


def machine(available_gib: float, free_gib: float = 500) -> Profile:
    disks = tuple(Disk(folder, "/dev/sda", int(free_gib * 1024)) for folder in FOLDERS)
    return replace(GOOD, machine=replace(GOOD.machine, ram_available_mib=int(available_gib * 1024), disks=disks))


def chosen(hardware: Hardware, named: str | None = None) -> Choice:
    return choose(hardware, wanted_context=None, named=named, registry_reachable=True)


def look(hardware: Hardware, profile: Profile, named: str | None = None) -> tuple[list[str], list[str]]:
    problems, warnings = model_room(HOME, profile, chosen(hardware, named), hardware, named, None)
    return [str(problem) for problem in problems], warnings


def test_memory_that_others_use_is_told_with_a_model_that_fits() -> None:
    hardware = Hardware(ram_gib=16, disk_free_gib=500)
    problems, warnings = look(hardware, machine(6))
    assert warnings == [] and len(problems) == 1
    for words in ("host home: RAM", "6.0 GiB are free, the rest of 16.0 GiB", "11.9 GiB free for qwen3:14b"):
        assert words in problems[0]
    # The model that the message proposes fits into the free memory.
    assert "'ollama_model': 'qwen2.5:7b', 'ollama_context': 16384" in problems[0]
    advised = choose(hardware, wanted_context=16384, named="qwen2.5:7b", registry_reachable=True)
    assert advised.need_gib <= 6


def test_a_named_model_is_tried_with_a_warning() -> None:
    problems, warnings = look(Hardware(ram_gib=16, disk_free_gib=500), machine(6), named="qwen3:14b")
    assert problems == [] and len(warnings) == 1 and "qwen3:14b needs" in warnings[0]


def test_fresh_machines_have_the_room_for_what_is_chosen_for_them() -> None:
    for total in (4, 8, 16, 24, 36, 64, 128):
        hardware = Hardware(ram_gib=total * 0.96, disk_free_gib=500)
        assert look(hardware, machine(total * 0.96 - 0.7)) == ([], []), total


def test_nothing_is_said_where_nothing_is_known_or_the_card_has_the_model() -> None:
    unknown = replace(GOOD, machine=replace(machine(6).machine, ram_available_mib=None))
    assert look(Hardware(ram_gib=16, disk_free_gib=500), unknown) == ([], [])
    assert look(Hardware(ram_gib=16, disk_free_gib=500, vram_gib=24), machine(2)) == ([], [])


def test_the_model_and_all_else_have_to_fit_on_one_disk() -> None:
    hardware = Hardware(ram_gib=16, disk_free_gib=16)
    problems, _ = look(hardware, machine(14, free_gib=16))
    assert len(problems) == 1
    for words in ("disk at /var/lib and /opt", "16384 MiB free", "qwen3:14b takes 8.7 GiB", "'ollama_model': '"):
        assert words in problems[0]
    smaller = problems[0].split("'ollama_model': '")[1].split("'")[0]
    assert look(hardware, machine(14, free_gib=16), named=smaller)[0] == []


def test_a_disk_of_its_own_for_models_has_to_hold_them_and_the_other_nothing_of_them() -> None:
    assert own_disk(free_gib=11, for_models_gib=12) == []
    (problem,) = own_disk(free_gib=11, for_models_gib=8)
    assert "disk at /var/lib/ollama" in problem and f"{8 * 1024} MiB free" in problem


def own_disk(free_gib: float, for_models_gib: int) -> list[str]:
    """The problems of a host with a separate disk for models: `for_models_gib` are free there, `free_gib` elsewhere."""
    profile = machine(14, free_gib=free_gib)
    disks = tuple(
        replace(disk, system="/dev/sdb", free_mib=for_models_gib * 1024) if disk.folder == "/var/lib/ollama" else disk
        for disk in profile.machine.disks
    )
    own = replace(profile, machine=replace(profile.machine, disks=disks))
    return look(Hardware(ram_gib=16, disk_free_gib=12), own)[0]


GPU = Hardware(ram_gib=16, disk_free_gib=500, vram_gib=24)
#: The sizes of Ollama's files with libraries for graphics cards, in bytes: 3 GiB together, the largest 1 GiB.
FILES = (2**30, 2**30, 2**29, 2**29)


def libraries(**free_gib: float) -> list[str]:
    """The problems of a host with so much free space for `opt`, `models` and the `rest`. A place that is named has a
    disk of its own."""
    names = {"opt": "/opt", "models": "/var/lib/ollama"}
    disks = tuple(
        next(
            (
                Disk(folder, f"/dev/{name}", int(gib * 1024))
                for name, gib in free_gib.items()
                if names.get(name) == folder
            ),
            Disk(folder, "/dev/sda", int(free_gib["rest"] * 1024)),
        )
        for folder in FOLDERS
    )
    profile = replace(GOOD, machine=replace(GOOD.machine, disks=disks))
    return list(map(str, libraries_room(HOME, profile, chosen(GPU), FILES)))


def test_ollamas_libraries_for_graphics_cards_are_counted_with_their_true_size() -> None:
    of_all = sum(disk_needs(HOME.roles).values()) / 1024 + chosen(GPU).entry.download_gib + 0.01
    # All files are uploaded, then copied one by one: this needs 3 GiB, and 1 GiB for the largest copy.
    assert libraries(rest=of_all + 4) == []
    (problem,) = libraries(rest=of_all + 3.9)
    assert "of which Ollama with its libraries for graphics cards takes 3072 MiB. Next: free" in problem
    # If /opt is another disk, the files are copied to it: it needs 3 GiB more.
    assert libraries(rest=500, opt=disk_needs(HOME.roles)["/opt"] / 1024 + 3) == []
    (problem,) = libraries(rest=500, opt=disk_needs(HOME.roles)["/opt"] / 1024 + 2.9)
    assert problem.startswith("host home: disk at /opt is ")
    # Too little space for models is reported elsewhere.
    assert libraries(rest=500, models=1) == []
