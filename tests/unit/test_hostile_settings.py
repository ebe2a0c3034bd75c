"""A setting is accepted unchanged, or refused. The message names setting, value, what is accepted, and the next
step."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from plan.engine.errors import SettingError
from plan.house.access_table import ROLES
from plan.house.house import House
from plan.house.inventory import HostEntry, build_house
from plan.house.settings import SETTINGS
from plan.ollama.model_choice import Choice, choose
from plan.ollama.model_fit import Hardware
from tests.unit import houses
from tests.unit.hostile import near, texts, unclean, values

TABLE: list[dict[str, Any]] = houses.SETTINGS["access_table"]
ROW = {"id": "web", "from": "lan", "to": "gateway", "port": "8080/tcp", "over": "lan", "why": "a page"}
DEVICE = {"name": "anna-phone", "owner": "people", "kind": "ios"}
SERVERS = ("coordinator", "gateway", "model_hosts")

settings = near("house", "house.internal", "people", "auto", "180d", "0", "smallest") | values
addresses = near("10.0.0.1", "fe80::1", "::1", "::ffff:10.0.0.1", "fe80::1%eth0") | values
networks = near("10.0.0.0/8", "fe80::/10", "192.168.1.5", "fe80::%eth0/64", "10.0.0.0/255.0.0.0") | values
names = near("anna", "laptop", "x" * 63) | values


def taken(entries: list[HostEntry], *named: str) -> House | None:
    """The house, or None if it is refused. Then this checks that the message names what is wrong."""
    try:
        house = build_house(entries, ROLES)
    except SettingError as error:
        for word in named:
            assert any(word in each.setting for each in error.problems)
        assert str(error).splitlines() == [f"{'    ' * bool(n)}{each}" for n, each in enumerate(error.problems)]
        for each in error.problems:
            for part in (str(each), each.setting, each.accepted, each.next_step):
                assert part and part.isprintable(), part
            assert len(str(each)) < 2000
        return None
    assert unclean(house) == []
    return house


def hub(**data: Any) -> HostEntry:
    return houses.entry("hub", *SERVERS, **data)


@given(st.sampled_from(sorted(SETTINGS)), settings)
@example("house_name", 7)
@example("lan_addresses", 7)
@example("lan_addresses", "10.0.0.1")
@example("admin_networks", "10.0.0.0/8")
@example("headscale_node_expiry", "9999999999d")
@example("headscale_node_expiry", "293y")
@example("house_name", "x" * 51)
def test_a_setting(name: str, value: Any) -> None:
    house = taken([hub(**{name: value})], name)
    if house is not None and value is not None:
        kept = {
            "house_name": house.name,
            "house_domain": house.domain,
            "headscale_users": list(house.users),
            "headscale_node_expiry": house.node_expiry,
            "artifacts_source": house.artifacts_source,
            "headscale_devices": list(house.devices),
            "tailscale_user": house.members[0].user,
        }
        assert name not in kept or kept[name] == value


@given(st.sampled_from(sorted(SETTINGS)), settings, settings)
def test_a_setting_of_the_house_that_hosts_do_not_agree_on(name: str, one: Any, other: Any) -> None:
    taken([hub(**{name: one}), houses.entry("laptop", "clients", **{name: other})], "")


@given(st.sampled_from(sorted(ROW)), near("web", "lan", "8080/tcp", "vpn", "people@", "all") | values)
@example("id", 'ssh" accept comment "x')
@example("id", 7)
@example("why", "\x1b[2J")
@example("port", "\u0662\u0662/tcp")
def test_a_cell_of_the_access_table(key: str, value: Any) -> None:
    house = taken([hub(access_table=[*TABLE, {**ROW, key: value}])], "access_table", "row")
    if house is not None:
        row = house.access[-1]
        kept = (row.id, row.source, row.target, f"{row.port}/{row.protocol}", row.over, row.why)
        assert kept == tuple({**ROW, key: value}[name] for name in ROW)


@given(values, values)
def test_another_key_in_a_row_or_a_device(key: Any, value: Any) -> None:
    try:
        row, device = {**ROW, key: value}, {**DEVICE, key: value}
    except TypeError:
        return  # Python itself has no such mapping
    if key not in ROW:
        assert taken([hub(access_table=[*TABLE, row])], "access_table", "row") is None
    if key not in DEVICE:
        assert taken([hub(headscale_devices=[device])], "headscale_devices") is None


@given(values)
def test_something_else_than_a_row_a_device_or_a_table(value: Any) -> None:
    assert taken([hub(access_table=[*TABLE, value])], "access_table") is None
    assert taken([hub(headscale_devices=[value])], "headscale_devices") is None
    assert taken([hub(access_table=value)], "access_table") is None


@given(st.sampled_from(sorted(DEVICE)), near("anna-phone", "people", "ios") | values)
def test_a_value_of_a_device(key: str, value: Any) -> None:
    house = taken([hub(headscale_devices=[{**DEVICE, key: value}])], "headscale_devices")
    if house is not None:
        (device,) = house.devices
        assert {"name": device.name, "owner": device.owner, "kind": device.kind} == {**DEVICE, key: value}


@given(names)
@example("anna")
def test_a_person(value: Any) -> None:
    house = taken([hub(headscale_users=["anna", value])], "headscale_users")
    assert house is None or house.users == ("anna", value)


@given(addresses)
@example("fe80::1%; reboot")
@example(b"\x0a\0\0\1")
def test_an_address(value: Any) -> None:
    house = taken([hub(lan_addresses=[value])], "lan_addresses")
    assert house is None or house.members[0].addresses == (str(ipaddress.ip_address(value)),)


@given(addresses)
def test_an_address_that_ssh_uses(value: Any) -> None:
    entry = hub(ssh_hostname=value)
    taken([HostEntry(entry.name, entry.groups, {**entry.data, "lan_addresses": None})], "hub")


@given(networks)
@example("fe80::%eth0; reboot/64")
@example(("10.0.0.0", 8))
def test_a_network(value: Any) -> None:
    house = taken([hub(admin_networks=[value])], "admin_networks")
    assert house is None or house.admin_networks == (str(ipaddress.ip_network(value)),)


@given(names)
@example("x\ny")
def test_a_host_name(value: Any) -> None:
    house = taken(
        [hub(), houses.entry(value, "clients") if isinstance(value, str) else HostEntry(value, ("clients",), {})], ""
    )
    assert house is None or house.members[1].name == value


@given(names, values)
@example(1, "x")
@example("ssh_\n", "x")
def test_the_name_of_a_setting(key: Any, value: Any) -> None:
    try:
        data = {**hub().data, key: value}
    except TypeError:
        return
    taken([HostEntry("hub", SERVERS, data)], "")


@given(st.one_of(names, st.none()), st.lists(texts, max_size=2))
def test_a_group(group: Any, more: list[str]) -> None:
    try:
        build_house([hub()], [*ROLES, group, *more])
    except SettingError as error:
        assert all(str(each).isprintable() for each in error.problems)


@given(settings, st.one_of(settings, st.integers(), st.floats()))
@example(None, "8192")
@example(None, 8192.5)
@example(None, True)
@example(7, None)
@example(["smallest"], None)
def test_a_model_and_its_context(model: Any, context: Any) -> None:
    try:
        found: Choice = choose(
            Hardware(ram_gib=32, disk_free_gib=500), named=model, wanted_context=context, registry_reachable=True
        )
    except SettingError as error:
        assert "ollama_" in error.setting and str(error).isprintable() and len(str(error)) < 2000
        return
    assert type(found.context) is int
    assert context in (None, found.context) and model in (None, "smallest", found.entry.name)
