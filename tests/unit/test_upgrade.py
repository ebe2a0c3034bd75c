"""Upgrades: order of versions, allowed ways, known holes, room, and what earlier upgrades have left on a host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from pyinfra.api.exceptions import FactProcessError

from artifacts import advisories, pins
from artifacts.errors import PinError
from artifacts.store import Program, ProgramFile
from facts.upgrade import DataSizes
from plan.base.capabilities import FOLDERS, Disk, Machine
from plan.upgrade.advisories import Advisory, age_line, closed_by, hole_line, open_holes, why
from plan.upgrade.notes import Note, as_left, busy, left, parse_notes
from plan.upgrade.room import DATA, IMAGE_MIB, room_line, room_needs, room_problems
from plan.upgrade.versions import (
    LINKS,
    PROGRAMS,
    Installed,
    Step,
    go_back_command,
    order,
    parse_installed,
    refusals,
    steps,
)
from tasks.engine.hosts import This
from tasks.engine.house import WrongInput
from tasks.upgrade import check as upgrade
from tests.unit import fakes, houses
from tests.unit.test_profile import RECORDED, parse, with_section

HOLE = Advisory("CVE-1", "openclaw", "2026.9.5", "2026-09", "https://example.org", "Something could be read.")
OLDER = Advisory("CVE-0", "openclaw", "2026.9.3", "2026-09", "https://example.org", "Something could be written.")


def step(program: str, old: str, new: str) -> Step:
    return Step("home", program, old, new)


@pytest.mark.parametrize(
    ("lower", "higher"),
    [("0.29.9", "0.29.10"), ("0.9", "0.29.0"), ("2026.9.4", "2026.9.6"), ("1.102.3", "1.102.3.1"), ("v1.2", "1.3-rc1")],
)
def test_versions_are_compared_by_their_numbers(lower: str, higher: str) -> None:
    assert order(lower) < order(higher)


@pytest.mark.parametrize("text", ["", "latest", "-1", "v"])
def test_a_text_without_a_number_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="no version"):
        order(text)


def test_what_is_installed_is_known_from_links_and_from_the_container() -> None:
    lines = [
        "/opt/private-ai/headscale-0.29.3-0123456789ab/bin/headscale",
        "/opt/private-ai/tailscale-1.102.3-0123456789ab/bin/tailscaled",
        "/usr/bin/ollama",
        "/opt/private-ai/ollama-main-0123456789ab/bin/ollama",
        "Image=localhost/openclaw:2026.9.6-ba9876543210",
        "Image=docker.io/openclaw:2026.9.6",
    ]
    assert parse_installed(lines) == (
        Installed("headscale", "0.29.3", "0123456789ab"),
        Installed("tailscale", "1.102.3", "0123456789ab"),
        Installed("openclaw", "2026.9.6", "ba9876543210"),
    )
    assert {*LINKS, "openclaw"} == set(PROGRAMS) == set(pins.load().programs)


def test_a_fresh_host_and_another_build_are_no_upgrade() -> None:
    pinned = {"headscale": "0.29.3", "ollama": "0.32.15"}
    assert steps("home", (), pinned) == ()
    assert steps("home", [Installed("headscale", "0.29.3", "a" * 12)], pinned) == ()
    # A role that the host has lost.
    assert steps("home", [Installed("openclaw", "2026.9.4", "a" * 12)], pinned) == ()
    assert steps("home", [Installed("headscale", "0.29.2", "a" * 12)], pinned) == (
        step("headscale", "0.29.2", "0.29.3"),
    )


@pytest.mark.parametrize(
    ("program", "old", "new"),
    [
        ("headscale", "0.29.2", "0.29.3"),
        ("headscale", "0.28.0", "0.29.3"),
        ("tailscale", "1.98.10", "1.102.3"),
        ("ollama", "0.20.2", "0.32.15"),
        ("openclaw", "2026.9.4", "2026.9.6"),
        ("openclaw", "2026.1.20", "2026.9.6"),
    ],
)
def test_allowed_ways(program: str, old: str, new: str) -> None:
    assert refusals([step(program, old, new)], "inventory.py") == []


@pytest.mark.parametrize(
    ("program", "old", "new", "accepted", "following"),
    [
        ("headscale", "0.27.1", "0.29.3", "(0.28 comes next)", "artifacts/pins.yaml has Headscale 0.28.x"),
        ("headscale", "0.29.3", "1.0.0", "one minor version after the other", "deploy this project's revision"),
        ("headscale", "0.29.3", "0.29.2", "0.29.3 or newer", "program=headscale --data on=home"),
        ("openclaw", "2026.9.6", "2026.9.4", "2026.9.6 or newer", "playbooks/go_back.py"),
        ("tailscale", "1.102.3", "1.98.10", "1.102.3 or newer", "git pull"),
        ("ollama", "0.17.0", "0.20.9", "0.21 or newer", "correct the pin"),
    ],
)
def test_ways_that_are_not_allowed(program: str, old: str, new: str, accepted: str, following: str) -> None:
    [problem] = refusals([step(program, old, new)], "inventory.py")
    assert f"host home: upgrade of {program} is '{old} -> {new}'" in str(problem)
    assert accepted in problem.accepted and following in problem.next_step


def test_the_command_for_going_back_is_quoted() -> None:
    assert go_back_command("my house.py", "ollama", "home") == (
        "pyinfra 'my house.py' playbooks/go_back.py --data program=ollama --data on=home"
    )


def test_holes_are_those_below_the_version_that_closes_them() -> None:
    known = (OLDER, HOLE)
    assert open_holes("openclaw", "2026.9.2", known) == (HOLE, OLDER)
    assert open_holes("openclaw", "2026.9.4", known) == (HOLE,)
    assert open_holes("openclaw", "2026.9.5", known) == open_holes("ollama", "0.1", known) == ()
    assert closed_by(step("openclaw", "2026.9.2", "2026.9.4"), known) == (OLDER,)


def test_why_a_version_changes() -> None:
    said = why(step("openclaw", "2026.9.2", "2026.9.6"), (OLDER, HOLE))
    assert said == (
        "it closes CVE-1 (2026-09, https://example.org): Something could be read. And 1 more, see "
        "artifacts/advisories.yaml"
    )
    assert "no hole of the old version is known" in why(step("openclaw", "2026.9.5", "2026.9.6"), (OLDER, HOLE))


def test_a_status_names_a_hole_and_the_next_step() -> None:
    said = hole_line("home", "openclaw", "2026.9.4", (OLDER, HOLE), "2026.9.6")
    assert said == (
        "home: openclaw 2026.9.4 has a known hole, closed in 2026.9.5: CVE-1 (2026-09, https://example.org): Something "
        "could be read. Next: run the deployment"
    )
    assert "git pull, then" in hole_line("home", "openclaw", "2026.9.2", (OLDER, HOLE), "2026.9.4")
    assert hole_line("home", "openclaw", "2026.9.6", (OLDER, HOLE), "2026.9.6") == ""


def test_a_status_warns_of_old_pins() -> None:
    checked = date(2026, 11, 22)
    assert age_line(checked, date(2027, 1, 6)) == ""
    assert "46 days ago" in age_line(checked, date(2027, 1, 7)) and "git pull" in age_line(checked, date(2027, 1, 7))


def test_every_advisory_has_its_date_and_its_source_and_ours_are_closed() -> None:
    known = advisories.load()
    assert {each.program for each in known} == set(PROGRAMS)
    for each in known:
        assert each.source.startswith("https://") and each.says.endswith("."), each.id
        assert not each.concerns(pins.load().programs[each.program].version), f"{each.id} is open in our pin"
    assert len({each.id for each in known}) == len(known) > 20


@pytest.mark.parametrize(
    "text",
    [
        "advisories: [",
        "advisories: [{id: a}]",
        "advisories: [{id: a, program: b, fixed_in: '1', date: '2026', source: s, says: t}]",
        "advisories: [{id: a, program: ollama, fixed_in: next, date: '2026', source: s, says: t}]",
        "advisories: [{id: a, program: ollama, fixed_in: '1', date: soon, source: s, says: t}]",
    ],
)
def test_a_broken_file_of_advisories_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "advisories.yaml").write_text(text)
    with pytest.raises(PinError, match="not a file of advisories"):
        advisories.load(tmp_path / "advisories.yaml")


NOTES = [
    "headscale 0.29.2 0.29.3 switch 1795900000 4096",
    "openclaw 2026.9.4 2026.9.6 back 1795900000 8192",
    "it was not ready",
    "at work",
]


def test_notes_of_upgrades() -> None:
    cut, back = parse_notes(NOTES)
    assert cut == Note("headscale", "0.29.2", "0.29.3", "switch", 1795900000, 4096)
    assert back == Note("openclaw", "2026.9.4", "2026.9.6", "back", 1795900000, 8192, "it was not ready", True)
    assert back.ended and not cut.ended and back.at == "2026-11-28 21:06 UTC"
    with pytest.raises(ValueError):
        parse_notes(["rm -rf /"])
    with pytest.raises(ValueError):
        parse_notes(["headscale 1 2 flying 1 1"])


def test_an_upgrade_that_was_cut_off_counts_as_not_made() -> None:
    there = (Installed("headscale", "0.29.3", "a" * 12), Installed("ollama", "0.32.15", "b" * 12))
    cut = Note("headscale", "0.29.2", "0.29.3", "switch", 1, 1)
    assert [each.version for each in as_left(there, [cut])] == ["0.29.2", "0.32.15"]
    assert as_left(there, [replace(cut, phase="done")]) == there


def test_what_earlier_upgrades_have_left_is_said() -> None:
    wanted = [step("openclaw", "2026.9.4", "2026.9.6")]
    cut, back = parse_notes(NOTES)
    [said] = left("home", [cut], wanted)
    assert "headscale from 0.29.2 to 0.29.3 was cut off" in said and "first puts back" in said
    [said] = left("home", [replace(back, at_work=False)], wanted)
    assert "was taken back on 2026-11-28 21:06 UTC: it was not ready. This run tries again." in said
    [said] = left("home", [replace(back, phase="stuck")], wanted)
    assert "did not do then what it did before" in said
    assert left("home", [back, replace(back, phase="done")], []) == []
    [problem] = busy("home", [cut, back])
    assert "host home: upgrade of openclaw is '2026.9.4 -> 2026.9.6 is at work since" in str(problem)


def test_a_profile_has_programs_and_notes() -> None:
    text = with_section("programs", "/opt/private-ai/headscale-0.29.3-0123456789ab/bin/headscale", RECORDED)
    profile = parse(with_section("upgrades", "headscale 0.29.2 0.29.3 switch 1795900000 4096", text))
    assert profile.installed == (Installed("headscale", "0.29.2", "0123456789ab"),)
    assert profile.upgrades[0].phase == "switch"
    with pytest.raises(FactProcessError, match="cannot be read"):
        parse(with_section("upgrades", "headscale", RECORDED))


def machine(free: int, **other: int) -> Machine:
    own = {"openclaw": "/var/lib/openclaw", "opt": "/opt"}
    sizes = {own[name]: mib for name, mib in other.items()}
    return Machine(disks=tuple(Disk(each, each if each in sizes else "/", sizes.get(each, free)) for each in FOLDERS))


def test_room_for_the_program_and_for_the_copy() -> None:
    wanted = [step("headscale", "0.29.2", "0.29.3"), step("openclaw", "2026.9.4", "2026.9.6")]
    needs = room_needs(wanted, {"headscale": 1, "openclaw": 100}, {"headscale": 60, "openclaw": 300})
    assert needs["/opt"] == 60 and needs["/var/lib/openclaw"] == IMAGE_MIB + 100
    assert sum(needs.values()) == 60 + 60 + 2 * 1 + 2 * 100 + 2 * 64 + IMAGE_MIB
    assert room_problems("home", wanted, machine(5000), needs) == []
    [problem] = room_problems("home", wanted, machine(5000, openclaw=1000), needs)
    assert "disk at /var/lib/openclaw is '1000 MiB free'" in str(problem) and "a copy of the data" in str(problem)
    assert room_line(machine(5000, opt=70), needs).endswith("are needed, 5000 MiB and 70 MiB are free")
    assert room_needs([step("ollama", "0.32.14", "0.32.15")], {}, {"ollama": 90}) == {
        "/opt": 90,
        "/var/lib/private-ai/incoming": 90 + 64,
    }


def test_the_size_of_data_is_asked_in_one_command() -> None:
    said = DataSizes().command(programs=PROGRAMS)
    for name, data in DATA.items():
        assert f"cd {data.folder} " in said and f'"%s %s\\n" {name} ' in said
    assert "--exclude=./cache" in said and "ollama" not in said
    assert DataSizes().process(["headscale 1025", "openclaw ", "end"]) == {"headscale": 2, "openclaw": 0}
    with pytest.raises(FactProcessError, match="was cut short"):
        DataSizes().process(["headscale 1"])
    with pytest.raises(FactProcessError, match="is not understood"):
        DataSizes().process(["headscale", "end"])


@contextmanager
def checked(**given: Any) -> Iterator[list[str]]:
    """The check of a host with an older Headscale. Yields what the run logs."""
    logged: list[str] = []
    here: Any = SimpleNamespace(log=logged.append, name="home")
    replaced = {
        "ask": lambda *_, **__: {"headscale": 3},
        "choice_of": lambda _: fakes.CHOICE,
        "program": lambda name, *_: Program(
            name, "1", "amd64", "build", Path("/cache"), (ProgramFile("bin/x", "a" * 64, 60 * 2**20, "0755"),)
        ),
        "host": here,
        **given,
    }
    with patch.multiple(upgrade, **replaced):
        yield logged


def older(version: str, free: int = 50_000) -> This:
    house = houses.single()
    profile = replace(fakes.PROFILE, installed=(Installed("headscale", version, "a" * 12),), machine=machine(free))
    return This(house, house.member("home"), profile)


def test_a_run_says_from_what_to_what_why_and_whether_there_is_room() -> None:
    with checked() as logged:
        assert upgrade.check_room(older("0.29.2")) == []
    assert re.match(r"headscale 0\.29\.2 -> 0\.29\.3: it closes juanfont/headscale#3393 \(2026-07-29, https", logged[0])
    assert logged[1] == "room: 190 MiB are needed, 50000 MiB are free"
    with checked():
        assert len(upgrade.check_room(older("0.29.2", 100))) == 1
    with checked(ask=None) as logged:
        assert upgrade.check_room(older("0.29.3")) == [] == logged


def test_a_run_refuses_the_way_first() -> None:
    problems, warnings = upgrade.check_path(older("0.27.1"))
    assert len(problems) == 1 and warnings == []


def test_a_run_without_its_file_of_advisories_changes_nothing(tmp_path: Path) -> None:
    broken = SimpleNamespace(load=lambda: advisories.load(tmp_path / "advisories.yaml"))
    with checked(advisories=broken), pytest.raises(WrongInput, match=r"git checkout artifacts/advisories\.yaml"):
        upgrade.check_room(older("0.29.2"))
