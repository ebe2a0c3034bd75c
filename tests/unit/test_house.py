"""A house is built from inventory and settings, or refused. The message names setting, value, what is accepted, and the
next step."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from plan.engine.errors import SettingError
from plan.house.access_table import NEEDED, ROLES, parse_access
from plan.house.house import row_for, row_out
from plan.house.inventory import HostEntry, build_house
from plan.house.settings import SETTINGS
from tests.unit import houses

SERVERS = ("coordinator", "gateway", "model_hosts")


def test_a_house_on_one_host_has_all_roles_there() -> None:
    house = houses.single()
    assert house.coordinator == house.gateways[0] == house.gateway_of("people") == house.member("home")
    assert house.member("home").tags == ("tag:coordinator", "tag:gateway-home", "tag:model-host")
    assert house.member("laptop").tags == ()
    assert house.member("laptop").user == "people"
    assert house.vpn_name(house.gateways[0]) == "home.vpn.house.internal"


def test_the_control_servers_name_is_not_inside_the_vpns_domain() -> None:
    # Otherwise Headscale does not start.
    house = houses.single()
    assert not house.headscale_name.endswith(f".{house.vpn_domain}")
    assert house.headscale_name != house.vpn_domain


def test_every_setting_of_group_data_is_known_and_every_default_is_the_same() -> None:
    for name, value in houses.SETTINGS.items():
        assert name in SETTINGS
        if name != "access_table":
            assert value == SETTINGS[name], name


def test_addresses_are_ordered_ipv4_first() -> None:
    hub = houses.entry("hub", *SERVERS, lan_addresses=["fd4c::1", "10.1.1.1"])
    assert build_house([hub], ROLES).coordinator.addresses == ("10.1.1.1", "fd4c::1")


def refusal(entries: list[HostEntry], groups: tuple[str, ...] = ROLES) -> str:
    with pytest.raises(SettingError) as caught:
        build_house(entries, groups)
    assert caught.value.accepted and caught.value.next_step
    return str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("house_domain", "house"),
        ("house_domain", "House.internal"),
        # If the control server is named by an address, a client does not check its certificate.
        ("house_domain", "192.168.1.10"),
        ("house_domain", "fd00::10"),
        ("house_domain", "house.local"),
        ("house_domain", 7),
        ("house_name", "My House"),
        ("headscale_users", []),
        ("headscale_users", ["x"]),
        ("headscale_users", ["Anna"]),
        ("headscale_node_expiry", "180 days"),
        ("headscale_node_expiry", 180),
        ("artifacts_source", "internet"),
        ("admin_networks", []),
        ("admin_networks", ["192.168.1.300/24"]),
        ("lan_addresses", ["hub.lan"]),
        ("tailscale_user", "nobody"),
        ("firewall_shut_off", "80/tcp"),
        ("firewall_shut_off", ["80"]),
        ("firewall_shut_off", [80]),
    ],
)
def test_a_wrong_value_is_named_with_its_setting(setting: str, value: Any) -> None:
    said = refusal([houses.entry("hub", *SERVERS, **{setting: value})])
    assert setting in said
    assert repr(value[0] if isinstance(value, list) and value else value) in said


def test_ports_to_shut_off_may_differ_from_host_to_host() -> None:
    entries = [houses.entry("hub", *SERVERS, firewall_shut_off=["80/tcp", "53/udp"]), houses.entry("laptop", "clients")]
    house = build_house(entries, ROLES)
    assert house.member("hub").shut_off == {"80/tcp", "53/udp"} and house.member("laptop").shut_off == frozenset()


def test_a_setting_that_nobody_reads_is_refused_with_the_nearest_name() -> None:
    assert "did you mean 'ollama_model'?" in refusal([houses.entry("hub", *SERVERS, olama_model="x")])


def test_settings_of_pyinfra_itself_are_let_through() -> None:
    build_house([houses.entry("hub", *SERVERS, ssh_port=22, _sudo=True)], ROLES)


def test_groups() -> None:
    hub = houses.entry("hub", *SERVERS)
    assert "did you mean 'clients'" in refusal([hub], (*ROLES, "client"))
    assert "at least one host" in refusal([houses.entry("hub", "coordinator", "model_hosts")])
    assert "model_hosts is []" in refusal([houses.entry("hub", "coordinator", "gateway")])
    two = [hub, houses.entry("gate", "coordinator")]
    assert "['hub', 'gate']" in refusal(two)
    assert "host gate" in refusal([hub, houses.entry("gate")])
    assert "either a client or a server" in refusal([houses.entry("hub", *SERVERS, "clients")])


ROW = {"id": "web", "from": "lan", "to": "gateway", "port": "8080/tcp", "over": "lan", "why": "-"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"from": "guests"}, "'guests'"),
        ({"from": "gatway"}, "did you mean 'gateway'"),
        ({"to": "everyone"}, "'everyone'"),
        ({"over": "wifi"}, "'wifi'"),
        ({"port": "8080"}, "NUMBER/tcp"),
        ({"port": "0/tcp"}, "1 to 65535"),
        ({"port": "70000/udp"}, "1 to 65535"),
        ({"port": "80/sctp"}, "NUMBER/tcp"),
        ({"from": "lan", "over": "vpn"}, "over the VPN only"),
        ({"from": "clients", "over": "lan"}, "only admin or lan"),
        ({"id": "ssh"}, "every id once"),
        ({"colour": "red"}, "'colour'"),
        ({"to": "192.168.1.5"}, "a row to an address is for servers"),
        ({"to": "192.168.1.5", "from": "clients"}, "a row to an address is for servers"),
        ({"to": "192.168.1.5", "from": "gatway"}, "did you mean 'gateway'"),
        ({"to": "192.168.1.5", "from": "gateway", "over": "vpn"}, "outside the VPN"),
        ({"to": "192.168.1.0/24", "from": "gateway"}, "or the address"),
        ({"to": "nas.lan", "from": "gateway"}, "or the address"),
        ({"to": "100.64.0.1", "from": "gateway"}, "an address in the VPN"),
        ({"to": "127.0.0.1", "from": "gateway"}, "loopback"),
        ({"to": "0.0.0.0", "from": "gateway"}, "no address of one host"),
        ({"to": "fe80::1", "from": "gateway"}, "link-local"),
    ],
)
def test_a_wrong_row_of_the_access_table_is_refused(change: dict[str, str], said: str) -> None:
    with pytest.raises(SettingError, match="access_table") as caught:
        parse_access([*houses.SETTINGS["access_table"], {**ROW, **change}])
    assert said in str(caught.value)


def test_a_good_row_is_taken() -> None:
    rows = parse_access([*houses.SETTINGS["access_table"], ROW])
    assert (rows[-1].port, rows[-1].protocol, rows[-1].source, rows[-1].leads_out) == (8080, "tcp", "lan", False)


def test_a_row_to_an_address_is_a_way_out() -> None:
    rows = parse_access([*houses.SETTINGS["access_table"], {**ROW, "from": "gateway", "to": "fd00:0::5"}])
    assert (rows[-1].target, rows[-1].leads_out) == ("fd00::5", True)
    assert not any(row.leads_out for row in rows[:-1])
    needed = [{**row, "to": "192.168.1.5"} if row["id"] == "stun" else row for row in houses.SETTINGS["access_table"]]
    with pytest.raises(SettingError, match="the house needs this row"):
        parse_access(needed)


@pytest.mark.parametrize("missing", NEEDED)
def test_a_table_without_a_row_that_the_house_needs_is_refused(missing: str) -> None:
    with pytest.raises(SettingError, match=missing):
        parse_access([row for row in houses.SETTINGS["access_table"] if row["id"] != missing])


@pytest.mark.parametrize("raw", [None, [], {}, ["ssh"], [{}]])
def test_something_else_than_a_table_is_refused(raw: object) -> None:
    with pytest.raises(SettingError, match="access_table"):
        parse_access(raw)


TWO = {"headscale_users": ["anna", "ben"]}


@pytest.mark.parametrize(
    ("hub", "gate", "said"),
    [
        (None, ["ben"], "host hub: openclaw_users is None; accepted: with several gateways (hub, gate)"),
        (["anna"], ["bene"], "did you mean 'ben'"),
        (["anna"], "ben", "a list with at least one of headscale_users: anna, ben"),
        (["anna"], [], "host gate: openclaw_users is []"),
        (["anna"], ["ben", "ben"], "every name once"),
        (["anna", "ben"], ["ben"], "leave ben at one of them"),
        (["anna"], ["anna"], "leave anna at one of them"),
    ],
)
def test_everybody_has_exactly_one_gateway(hub: object, gate: object, said: str) -> None:
    entries = [
        houses.entry("hub", *SERVERS, openclaw_users=hub, **TWO),
        houses.entry("gate", "gateway", openclaw_users=gate, **TWO),
    ]
    assert said in refusal(entries)


def test_a_lone_gateway_is_everybodys() -> None:
    house = build_house([houses.entry("hub", *SERVERS, **TWO)], ROLES)
    assert house.gateway_of("anna") == house.gateway_of("ben") == house.member("hub")
    assert "add ben to openclaw_users" in refusal([houses.entry("hub", *SERVERS, openclaw_users=["anna"], **TWO)])


def test_a_host_that_is_no_gateway_has_no_people() -> None:
    laptop = houses.entry("laptop", "clients", openclaw_users=["people"])
    assert "on a host that is not a gateway" in refusal([houses.entry("hub", *SERVERS), laptop])


def test_people_reach_their_own_gateway_and_no_other() -> None:
    phone = {"name": "ben-phone", "owner": "ben", "kind": "ios"}
    house = houses.pair(headscale_devices=[phone])
    home, gate, row = house.member("home"), house.member("gate"), house.row("openclaw")
    assert [each.name for each in house.callers(row, home)] == ["laptop"]
    assert [each.name for each in house.callers(row, gate)] == ["desk", "ben-phone"]
    # Both gateways use the only model server, so it must also answer over the VPN.
    assert house.callers(house.row("ollama"), home) == (gate, home)
    assert house.served_elsewhere(house.row("ollama"), home)


@pytest.mark.parametrize("port", ["1/tcp", "65535/udp"])
@pytest.mark.parametrize("address", ["192.168.1.5", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"])
def test_a_row_that_is_shown_is_taken_as_it_stands(port: str, address: str) -> None:
    table = houses.SETTINGS["access_table"]
    house = houses.split()
    shown = [row_for(member, port) for member in house.members]
    shown += [
        row_for(house.member("hub"), port, source, over) for source, over in (("admin", "lan"), ("people@", "vpn"))
    ]
    shown += [row_out(member, address, port) for member in house.members if member.is_server]
    for words in shown:
        row = ast.literal_eval(words.partition(": ")[2].partition(", see docs/")[0])
        assert parse_access([*table, row], house.users)[-1].id == row["id"]
    assert "'id': 'gateway-out-53-udp'" in row_out(house.member("gate"), "ADDRESS OF nas", "53/udp")
