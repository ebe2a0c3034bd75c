"""Inventories that people write by hand. Before the run connects to any host, all wrong forms, names and types are
reported together, each with the right form."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from pyinfra.api.exceptions import PyinfraError

from plan.engine.as_root import WAYS
from plan.engine.errors import SettingError
from plan.house.access_table import ROLES
from plan.house.groups import wrong_forms
from plan.house.host_data import MEANT, SSH_TYPES, destination
from plan.house.inventory import build_house
from plan.house.settings import SETTINGS
from tasks.engine.inventory import checked, unused_keys
from tests.unit import houses
from tests.unit.hostile import values

SERVERS = ROLES[:3]
HOST = {"ssh_hostname": "192.168.1.20", "ssh_user": "root"}


def wrong(group: str, value: Any) -> list[SettingError]:
    return list(wrong_forms({"__file__": "x", group: value}, "inventory"))


@pytest.mark.parametrize("group", ROLES)
@pytest.mark.parametrize(
    ("value", "place", "right"),
    [
        (("laptop", HOST), "", [("laptop", HOST)]),
        (["laptop", HOST], "", [("laptop", HOST)]),
        ([["laptop", HOST]], " host 1", [("laptop", HOST), ...]),
        ({"laptop": HOST}, "", [("laptop", HOST)]),
        ((("laptop", HOST), ("desk", HOST)), "", [("laptop", HOST), ("desk", HOST)]),
        (("laptop", "desk"), "", ["laptop", "desk"]),
        ("laptop", "", [("laptop", {"ssh_hostname": "192.168.1.10", "ssh_user": "root"})]),
        (None, "", [("NAME", {"ssh_hostname": "192.168.1.10", "ssh_user": "root"})]),
        ([("laptop",)], " host 1", ["laptop", ...]),
        ([7], " host 1", [("NAME", {"ssh_hostname": "192.168.1.10", "ssh_user": "root"}), ...]),
        ([("home", "ssh_user=admin")], " host home", [("home", {"ssh_user": "admin"}), ...]),
        (("home", "ssh_user=admin"), "", [("home", {"ssh_user": "admin"})]),
        ([("home", "ssh_port: 2222, _sudo: True")], " host home", [("home", {"ssh_port": 2222, "_sudo": True}), ...]),
        (
            [("home", ["ssh_user"])],
            " host home",
            [("home", {"ssh_hostname": "192.168.1.10", "ssh_user": "root"}), ...],
        ),
    ],
)
def test_another_form_of_a_group_is_told_with_the_right_one(group: str, value: Any, place: str, right: Any) -> None:
    (error,) = wrong(group, value)
    assert error.setting == f"inventory: {group}{place}" and "in braces" in error.accepted
    begin, _, rest = error.next_step.partition(" = ")
    shown = rest.removesuffix(", see inventory.py and docs/quick-start.md")
    assert begin == f"write {group}" and ast.literal_eval(shown) == right
    # The form that the message shows is accepted.
    assert wrong(group, [each for each in right if each is not ...]) == [] or "NAME" in shown


@pytest.mark.parametrize("host", ["@local", ("@local", HOST), "@ssh/192.168.1.20", "@docker/debian"])
def test_a_host_that_is_reached_in_another_way_is_told_to_be_one_of_ssh(host: Any) -> None:
    (error,) = wrong("clients", [host])
    assert error.setting == "inventory: clients host 1" and "over SSH" in error.accepted
    assert "ssh_hostname" in error.next_step and "openssh-server" in error.next_step


def test_good_groups_are_taken() -> None:
    for value in ([], ["home"], [("home", HOST), "desk"], (["home"], {"ssh_user": "root"})):
        assert wrong("clients", value) == []
    assert wrong("_helpers", ("laptop", 7)) == [] and wrong("ADMIN", {"ssh_user": "root"}) == []
    assert wrong("inventory", [("home", HOST)]) == []


def test_a_name_that_is_no_group_is_told() -> None:
    assert "did you mean 'clients'?" in str(wrong("client", ("laptop", HOST))[0])


def test_a_password_is_not_shown() -> None:
    for value in (("laptop", {"ssh_password": "geheim"}), [("laptop", "ssh_password=geheim")]):
        assert "geheim" not in str(wrong("clients", value)[0])


@given(values, values)
def test_a_hostile_group_is_taken_or_refused_in_words(value: Any, more: Any) -> None:
    for given_ in (value, (value, more), [value, more], [(value, more)], {"home": value}):
        for error in wrong("clients", given_):
            assert str(error).isprintable() and len(str(error)) < 3000


def refused(*entries: Any) -> list[SettingError]:
    with pytest.raises(SettingError) as caught:
        build_house(list(entries), ROLES)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("port", "ssh_port"),
        ("Port", "ssh_port"),
        ("user", "ssh_user"),
        ("hostname", "ssh_hostname"),
        ("ssh_host", "ssh_hostname"),
        ("ip", "ssh_hostname"),
        ("key", "ssh_key"),
        ("identity_file", "ssh_key"),
        ("sudo", "_sudo"),
        ("become", "_sudo"),
        ("ansible_host", "ssh_hostname"),
        ("ansible_user", "ssh_user"),
        ("ansible_ssh_private_key_file", "ssh_key"),
        ("model", "ollama_model"),
    ],
)
def test_a_near_name_in_a_hosts_data_is_told_with_the_right_one(word: str, right: str) -> None:
    (error,) = refused(houses.entry("home", *SERVERS, **{word: "geheim"}))
    assert error.setting == f"host home or group_data: {word}" and error.next_step == f"write {right!r} instead"
    assert right in error.accepted and len(str(error)) < 400
    assert "geheim" in str(error)


@pytest.mark.parametrize(
    ("word", "step"),
    [
        ("ssh_password", "ssh-copy-id USER@HOST"),
        ("password", "ssh-copy-id USER@HOST"),
        ("ansible_password", "ssh-copy-id USER@HOST"),
        ("ssh_key_password", "ssh-add PATH"),
    ],
)
@pytest.mark.parametrize("value", ["geheim", 1234])
def test_a_login_with_a_password_is_refused_without_showing_it(word: str, step: str, value: object) -> None:
    (error,) = refused(houses.entry("home", *SERVERS, **{word: value}))
    assert error.setting == f"host home or group_data: {word}" and step in error.next_step
    assert error.accepted == "a login with an SSH key, without a password in the inventory"
    assert str(value) not in str(error)


def test_every_meant_name_is_one_that_somebody_reads() -> None:
    assert set(MEANT.values()) <= {*SETTINGS, *SSH_TYPES, *WAYS}


@pytest.mark.parametrize(
    ("word", "value", "step"),
    [
        ("ssh_port", "2222", "write 'ssh_port': 2222"),
        ("ssh_port", "ssh", "write 'ssh_port': 22"),
        ("ssh_port", 0, "write 'ssh_port': 22"),
        ("ssh_port", 65536, "write 'ssh_port': 22"),
        ("ssh_port", True, "write 'ssh_port': 22"),
        ("ssh_user", 7, "correct it, or leave it out"),
        ("ssh_hostname", ["192.168.1.10"], "correct it, or leave it out"),
        ("ssh_allow_agent", "no", "correct it, or leave it out"),
        ("ssh_connect_retries", "3", "correct it, or leave it out"),
    ],
)
def test_a_word_for_ssh_of_another_type_names_its_host(word: str, value: Any, step: str) -> None:
    (error,) = refused(houses.entry("home", *SERVERS, **{word: value}))
    assert error.setting == f"host home or group_data: {word}" and error.found == value and error.next_step == step


@pytest.mark.parametrize(
    ("value", "step"),
    [
        ("192.168.1.10:2222", "write 'ssh_hostname': '192.168.1.10', 'ssh_port': 2222"),
        ("anna@192.168.1.10", "write 'ssh_hostname': '192.168.1.10', 'ssh_user': 'anna'"),
        ("ssh://anna@nas:22/", "write 'ssh_hostname': 'nas', 'ssh_port': 22, 'ssh_user': 'anna'"),
        ("[fd00::10]", "write 'ssh_hostname': 'fd00::10'"),
        ("[fd00::10]:2222", "write 'ssh_hostname': 'fd00::10', 'ssh_port': 2222"),
        ("192.168.1.10 ", "write 'ssh_hostname': '192.168.1.10'"),
        ("192.168.1.10:99999", "write 'ssh_hostname': '192.168.1.10'"),
    ],
)
@pytest.mark.parametrize("lan", [None, ["192.168.1.10"]])
def test_an_address_with_more_in_it_is_told_in_parts(value: str, step: str, lan: list[str] | None) -> None:
    (error,) = refused(houses.entry("home", *SERVERS, ssh_hostname=value, lan_addresses=lan))
    assert error.setting == "host home or group_data: ssh_hostname" and error.next_step == step


@pytest.mark.parametrize(
    "value", ["nas", "nas.lan", "nas_2", "192.168.1.10", "fd00::10", "fe80::1%eth0", "a b", "@", "", 7]
)
def test_an_address_alone_is_no_other_form(value: object) -> None:
    assert destination(value) == {}


def test_a_key_that_others_may_read_is_refused_as_ssh_would(tmp_path: Path) -> None:
    key = tmp_path / "my key"
    key.touch()
    key.chmod(0o644)
    entries = [houses.entry(name, "clients", ssh_key=str(key)) for name in ("laptop", "desk")]
    (error,) = unused_keys(entries)
    assert error.setting == "host laptop or group_data: ssh_key" and error.found == f"{key}, mode 0644"
    assert error.next_step == f"chmod 600 '{key}'"
    key.chmod(0o600)
    assert list(unused_keys(entries)) == []


@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
@pytest.mark.parametrize("words", ["", "geheim"])
def test_a_key_with_a_passphrase_is_for_the_agent(tmp_path: Path, form: str, words: str) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-m", form, "-N", words, "-f", key], check=True)
    found = list(unused_keys([houses.entry("laptop", "clients", ssh_key=str(key))]))
    assert [each.found for each in found] == ([f"{key}, which has a passphrase"] if words else [])
    assert not words or f"ssh-add {key}" in found[0].next_step


@pytest.mark.parametrize("key", [None, 7, "", "/nowhere/key", "~nobody-of-this-name/key", "a\0b"])
def test_a_key_that_is_not_there_is_reported_elsewhere(key: object) -> None:
    assert list(unused_keys([houses.entry("laptop", "clients", ssh_key=key)])) == []


def test_what_all_hosts_have_is_told_once() -> None:
    entries = [houses.entry("home", *SERVERS, port=22), houses.entry("laptop", "clients", port=22)]
    assert [each.setting for each in refused(*entries)] == ["host data or group_data: port"]


def test_an_address_under_a_wrong_name_is_not_missing_as_well() -> None:
    assert len(refused(houses.entry("home", *SERVERS, hostname="192.168.1.10", lan_addresses=None))) == 1


def test_all_that_is_wrong_with_an_inventory_is_told_at_once() -> None:
    table = houses.SETTINGS["access_table"]
    data = {
        "house_name": "My House",
        "house_domain": "house",
        "admin_networks": ["192.168.1.7", "10.0.0.0/33"],
        "headscale_node_expiry": "soon",
        "headscale_devices": [{"name": "Phone", "owner": "people", "kind": "ios"}, "x"],
        "artifacts_source": "internet",
        "access_table": [{**row, "port": 22} if row["id"] in ("ssh", "stun") else row for row in table],
    }
    home = houses.entry("home", "coordinator", "gateway", port=22, firewall_shut_off=["x"], **data)
    laptop = houses.entry("laptop", "clients", lan_addresses=["x"], tailscale_user="nobody", **data)
    said = "\n".join(map(str, refused(home, laptop, houses.entry("Desk", **data))))
    for word in (
        *data,
        "model_hosts is []",
        "shut_off",
        "lan_addresses",
        "tailscale_user",
        "'Desk'",
        "home or group_data: port",
    ):
        assert word in said, word
    assert said.count("admin_networks") == said.count("access_table") == 2 and said.count("headscale_devices") == 2


def test_one_thing_that_is_wrong_stands_on_one_line() -> None:
    good, bad = houses.entry("home", *SERVERS), houses.entry("laptop", "clients", port=22, user="root")
    assert checked(lambda: 1) == 1
    with pytest.raises(PyinfraError, match=r"^inventory: group is 'x'; .*\(nothing was changed\)$"):
        checked(lambda: build_house([good], (*ROLES, "x")))
    with pytest.raises(PyinfraError, match=r"^nothing was changed:\n    host laptop .*\n    host laptop "):
        checked(lambda: build_house([good, bad], ROLES))


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("192.168.1.7", "write '192.168.1.7/32' for this computer alone, or '192.168.1.0/24' for its network"),
        ("192.168.1.0", "write '192.168.1.0/32' for this computer alone, or '192.168.1.0/24' for its network"),
        ("fd00:1::7", "write 'fd00:1::7/128' for this computer alone, or 'fd00:1::/64' for its network"),
    ],
)
def test_an_address_without_a_mask_is_no_network(text: str, step: str) -> None:
    (error,) = refused(houses.entry("home", *SERVERS, admin_networks=[text]))
    assert "admin_networks" in error.setting and error.next_step == step
