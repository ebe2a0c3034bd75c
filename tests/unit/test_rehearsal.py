"""A rehearsal: each house fits into a lab, under its own names and with its own settings; what is other is said."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from lab.topology import TOPOLOGIES
from plan.backup.rehearsal import SHAPES, STAND_IN, rehearsal
from plan.backup.restoring import near
from plan.engine.errors import SettingError
from plan.house.access_table import ROLES
from plan.house.house import House
from plan.house.inventory import HostEntry, build_house
from tests.unit import houses
from tests.unit.houses import entry

#: As pyinfra would read the inventory of a rehearsal.
Read = tuple[House, dict[str, dict[str, Any]]]


def house(*entries: HostEntry) -> tuple[House, list[HostEntry]]:
    return build_house(entries, ROLES), list(entries)


def read(text: str, folder: Path) -> House:
    """The house of an inventory's text. Raises SettingError when a run would refuse it."""
    file = folder / "house.py"
    file.write_text(text)
    groups = {name: found for name, found in runpy.run_path(str(file)).items() if name in ROLES}
    data = {name: each for found in groups.values() for name, each in found}
    entries = [
        HostEntry(name, tuple(role for role in groups if name in dict(groups[role])), {**houses.SETTINGS, **data[name]})
        for name in data
    ]
    return build_house(entries, list(groups))


OWN = {
    "house_name": "cottage",
    "house_domain": "cottage.example",
    "headscale_users": ["anna", "ben"],
    "headscale_devices": [{"name": "anna-phone", "owner": "anna", "kind": "ios"}],
    "headscale_node_expiry": "90d",
}


def test_a_house_on_one_machine_keeps_its_names_and_settings(tmp_path: Path) -> None:
    given = house(
        entry("attic", "coordinator", "gateway", "model_hosts", **OWN, lan_addresses=["192.168.1.10"]),
        entry("notebook", "clients", **OWN, tailscale_user="ben", ollama_model=None, lan_addresses=["192.168.1.20"]),
    )
    found = rehearsal(*given)
    assert found.topology == "single" and [each.slot for each in found.hosts] == ["home", "laptop"]
    made = read(found.inventory, tmp_path)
    assert [member.name for member in made.members] == ["attic", "notebook"]
    assert made.member("attic").roles == {"coordinator", "gateway", "model_hosts"}
    assert (made.name, made.domain, made.users, made.node_expiry) == (
        "cottage",
        "cottage.example",
        ("anna", "ben"),
        "90d",
    )
    assert [device.name for device in made.devices] == ["anna-phone"]
    assert made.member("notebook").user == "ben"
    # The addresses are those of the lab, so nothing of the real house is reached.
    assert all(address.startswith(("10.", "fd4c:4142:")) for each in made.members for address in each.addresses)
    assert "192.168" not in found.inventory
    assert "notebook: the real machine is not there, so a virtual one joins anew under this name" in found.told


def test_every_topology_of_ours_can_be_rehearsed(tmp_path: Path) -> None:
    for given, topology in ((houses.single(), "single"), (houses.split(), "split"), (houses.pair(), "pair")):
        entries = [
            HostEntry(
                each.name,
                tuple(each.roles),
                {
                    **houses.SETTINGS,
                    "headscale_users": list(given.users),
                    "openclaw_users": list(each.openclaw_users) or None,
                    "tailscale_user": each.user,
                },
            )
            for each in given.members
        ]
        found = rehearsal(given, entries)
        assert found.topology == topology and {each.slot for each in found.hosts} == set(TOPOLOGIES[topology])
        made = read(found.inventory, tmp_path)
        assert {each.name: each.roles for each in made.members} == {each.name: each.roles for each in given.members}


def test_of_several_model_hosts_and_clients_as_many_as_are_needed() -> None:
    found = rehearsal(
        *house(
            entry("hub", "coordinator"),
            entry("gate", "gateway"),
            entry("brain", "model_hosts"),
            entry("larger", "model_hosts", lan_addresses=["10.77.0.40"]),
            entry("laptop", "clients"),
            entry("desk", "clients"),
        )
    )
    assert [(each.name, each.slot) for each in found.hosts] == [
        ("hub", "hub"),
        ("gate", "gate"),
        ("brain", "brain"),
        ("laptop", "laptop"),
    ]
    assert "not rehearsed, since a backup has nothing of them: larger, desk" in found.told


def test_a_house_without_clients_gets_one_for_the_message(tmp_path: Path) -> None:
    found = rehearsal(*house(entry("home", "coordinator", "gateway", "model_hosts")))
    assert [each.name for each in found.hosts] == ["home", STAND_IN]
    assert read(found.inventory, tmp_path).with_role("clients")


def test_a_house_with_too_many_servers_is_refused() -> None:
    people = ["anna", "ben", "cem", "dora"]
    gateways = [
        entry(f"gate{name}", "gateway", headscale_users=people, openclaw_users=[name], lan_addresses=[f"10.77.0.{n}"])
        for n, name in enumerate(people, 40)
    ]
    given = house(entry("hub", "coordinator", "model_hosts", headscale_users=people), *gateways)
    with pytest.raises(SettingError, match="accepted: up to 3"):
        rehearsal(*given)


def test_sshd_of_the_lab_listens_on_its_own_port(tmp_path: Path) -> None:
    rows = [{**row, "port": "2222/tcp"} if row["id"] == "ssh" else row for row in houses.SETTINGS["access_table"]]
    found = rehearsal(*house(entry("home", "coordinator", "gateway", "model_hosts", access_table=rows)))
    assert read(found.inventory, tmp_path).port("ssh") == 22
    assert "SSH listens on port 22 there, not on 2222" in found.told


def test_the_shapes_are_topologies_of_the_lab() -> None:
    for topology, servers, clients in SHAPES.values():
        assert (*servers, *clients) == TOPOLOGIES[topology]


def test_addresses_of_the_real_house_are_not_near_a_lab() -> None:
    given = houses.single()
    assert near(given, ("10.77.0.41", "fd4c:4142:77::41", "192.168.1.10", "10.78.0.1", "fd00::1", "x")) == (
        "10.77.0.41",
        "fd4c:4142:77::41",
    )
