"""Devices: the setting, what each device may reach, and which node of the VPN is which device."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from operations.devices.nodes import cut_script, record_script, tidy_script
from plan.devices.declared import KINDS, Device
from plan.devices.device_list import HEAD, entries, table_rows
from plan.devices.vpn_nodes import (
    Key,
    Minted,
    Tidy,
    VpnNode,
    key_of,
    leaving,
    moment,
    node_of,
    parse_record,
    record_text,
    standing,
    tidy,
    with_key,
)
from plan.engine.errors import SettingError
from plan.firewall.package_sources import Apt
from plan.firewall.rules import ruleset
from plan.headscale.packet_filters import packet_filter
from plan.headscale.policy import policy
from plan.house.access_table import Row
from plan.house.house import House
from plan.openclaw.browsers import Pairing, orphans, parse_pairings
from plan.verification import open_over_vpn
from tests.unit.houses import SETTINGS, single

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PHONE: dict[str, Any] = {"name": "anna-phone", "owner": "anna", "kind": "ios"}
TABLET: dict[str, Any] = {"name": "ben-tablet", "owner": "ben", "kind": "android"}
SSH_FOR_ANNA = {"id": "repair", "from": "anna@", "to": "all", "port": "22/tcp", "over": "vpn", "why": "she repairs"}


def house(*devices: dict[str, Any], **data: Any) -> House:
    return single(**{"headscale_users": ["people", "anna", "ben"], "headscale_devices": list(devices), **data})


def node(number: int, name: str, user: str = "anna", key: int | None = None, **more: Any) -> VpnNode:
    raw = {
        "id": number,
        "name": name,
        "given_name": name,
        "user": {"id": 1, "name": user},
        "ip_addresses": [f"100.64.0.{number}", f"fd7a:115c:a1e0::{number}"],
        **({"pre_auth_key": {"id": key}} if key else {}),
        **more,
    }
    return node_of(raw)


HOME = node(1, "home", tags=["tag:coordinator", "tag:gateway-home", "tag:model-host"])
LAPTOP = node(2, "laptop", "people", 2)
RECORD = {"anna-phone": Minted("anna", (4, 7), "2026-11-22T11:00:00+00:00")}


def test_devices_are_taken_as_they_are_declared() -> None:
    assert house(PHONE, TABLET).devices == (
        Device("anna-phone", "anna", "ios"),
        Device("ben-tablet", "ben", "android"),
    )
    assert [each.kind for each in house(*({**PHONE, "name": kind, "kind": kind} for kind in KINDS)).devices] == [*KINDS]


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ("anna-phone", ["'anna-phone'", "a list of devices", "use []"]),
        (["anna-phone"], ["entry 1", "a mapping"]),
        ([{**PHONE, "colour": "red"}], ["entry 1 key", "'colour'", "name, owner, kind"]),
        ([{**PHONE, "onwer": "anna"}], ["did you mean 'owner'?"]),
        ([{"name": "x", "owner": "anna"}], ["entry 1 kind", "None"]),
        ([PHONE, {**TABLET, "name": "Ben's"}], ["entry 2 name", '"Ben\'s"', "lower-case"]),
        ([{**PHONE, "name": "x" * 64}], ["63 at most"]),
        ([{**PHONE, "name": 7}], ["is 7"]),
        ([PHONE, PHONE], ["entry 2 name", "every name once"]),
        ([{**PHONE, "name": "laptop"}], ["'laptop'", "no host of the inventory"]),
        ([{**PHONE, "owner": "ann"}], ["(anna-phone) owner", "people, anna, ben", "did you mean 'anna'?"]),
        ([{**PHONE, "owner": "zoe"}], ["add the person to headscale_users"]),
        ([{**PHONE, "kind": "iOS"}], ["'iOS'", "did you mean 'ios'?"]),
        ([{**PHONE, "kind": None}], ["ios, android, macos, windows, linux"]),
    ],
)
def test_a_wrong_device_is_refused_with_the_next_step(devices: Any, said: list[str]) -> None:
    with pytest.raises(SettingError, match="headscale_devices") as caught:
        single(headscale_users=["people", "anna", "ben"], headscale_devices=devices)
    for words in said:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"from": "anne@"}, "did you mean 'anna@'?"),
        ({"from": "anna"}, "did you mean 'anna@'?"),
        ({"over": "lan"}, "only admin or lan"),
    ],
)
def test_a_person_in_the_access_table_is_one_of_the_house_and_over_the_vpn(change: dict[str, str], said: str) -> None:
    with pytest.raises(SettingError) as caught:
        house(access_table=[*SETTINGS["access_table"], {**SSH_FOR_ANNA, **change}])
    assert said in str(caught.value)


def test_a_row_for_a_person_is_a_grant_for_that_person_alone() -> None:
    made = house(PHONE, access_table=[*SETTINGS["access_table"], SSH_FOR_ANNA])
    grants: Any = policy(made)["grants"]
    assert grants[-1]["src"] == ["anna@"] and grants[-1]["ip"] == ["tcp:22"]
    assert [row.id for row in made.access if made.devices[0] in made.callers(row, made.member("home"))] == [
        "openclaw",
        "repair",
    ]


def test_without_a_row_no_device_reaches_another() -> None:
    grants: Any = policy(house(PHONE, TABLET))["grants"]
    assert not [grant for grant in grants if "group:clients" in grant["dst"]]


def test_a_persons_own_host_gets_the_persons_rows_and_others_do_not() -> None:
    table = [*SETTINGS["access_table"], SSH_FOR_ANNA]
    mine, other = house(access_table=table, tailscale_user="anna"), house(access_table=table)
    for made, ports in ((mine, {22, 18789}), (other, {18789})):
        assert open_over_vpn(made, made.member("laptop"), made.member("home")) == ports
    row = next(row for row in mine.access if row.id == "repair")
    # A server belongs to no person, also if its data has tailscale_user.
    assert mine.callers(row, mine.member("home")) == (mine.member("laptop"),)


def test_the_packet_filter_counts_joined_devices() -> None:
    made = house(PHONE, TABLET)
    vpn = {"home": ["100.64.0.1"], "laptop": ["100.64.0.2"], "anna-phone": ["100.64.0.3"]}
    wanted = {(source, "100.64.0.1", 6, 18789, 18789) for source in ("100.64.0.2", "100.64.0.3")}
    from_people = {each for each in packet_filter(made, made.member("home"), vpn) if each[0] != "100.64.0.1"}
    assert from_people == wanted


def test_a_house_without_clients_is_open_to_devices_that_may_come() -> None:
    made = house()
    alone = House(**{**made.__dict__, "members": made.members[:1]})
    assert 'iifname "tailscale0" tcp dport 18789 accept' in ruleset(alone, alone.gateways[0], Apt())
    # A server connects to itself only over loopback.
    assert "tcp dport 11434 accept" not in ruleset(alone, alone.gateways[0], Apt()).split("chain output")[0]


def test_times_in_both_spellings_of_headscale() -> None:
    assert moment({"seconds": 1795389309, "nanos": 5}) == datetime(2026, 11, 22, 23, 15, 9, tzinfo=UTC)
    assert moment("2026-11-22T23:15:09Z") == datetime(2026, 11, 22, 23, 15, 9, tzinfo=UTC)
    for nothing in ({"seconds": -62135596800}, "0001-01-01T00:00:00Z", "", None):
        assert moment(nothing) is None


def test_what_headscale_leaves_out_is_false_or_empty() -> None:
    bare = node_of({"id": 3, "given_name": "x", "user": {"name": "anna"}})
    assert (bare.user, bare.key, bare.online, bare.addresses, bare.expiry) == ("anna", None, False, (), None)
    assert HOME.user == "" and HOME.owner == "tag:coordinator, tag:gateway-home, tag:model-host"
    assert key_of({"id": 1, "expiration": {"seconds": 1795389309}}).live(NOW)
    assert not key_of({"id": 1, "expiration": {"seconds": 1795389309}, "used": True}).live(NOW)
    assert key_of({"id": 1, "expiration": {"seconds": 1795389309}, "used": True, "reusable": True}).live(NOW)
    assert not key_of({"id": 1, "expiration": {"seconds": 1795300000}}).live(NOW)
    assert Key(1, None, False).live(NOW)


def test_the_record_is_read_as_it_was_written_and_anything_else_is_an_error() -> None:
    assert parse_record(record_text(RECORD)) == RECORD
    assert parse_record("") == {}
    for text in ("[]", '{"x": {}}', '{"x": 1}', "{", '{"x": {"owner": "a", "keys": ["b"], "minted": ""}}'):
        with pytest.raises(ValueError):
            parse_record(text)


def test_a_new_key_is_added_and_a_new_owner_begins_anew() -> None:
    phone = Device("anna-phone", "anna", "ios")
    assert with_key(RECORD, phone, 9, NOW)["anna-phone"].keys == (4, 7, 9)
    assert with_key(RECORD, Device("anna-phone", "ben", "ios"), 9, NOW)["anna-phone"].keys == (9,)
    assert with_key({}, phone, 9, NOW) == {"anna-phone": Minted("anna", (9,), NOW.isoformat())}


def test_a_device_is_known_by_its_key_whatever_it_calls_itself() -> None:
    found = standing(house(PHONE), [HOME, LAPTOP, node(3, "iphone", key=4)], RECORD)
    assert found.hosts == {"home": HOME, "laptop": LAPTOP}
    assert found.devices["anna-phone"].id == 3
    assert (found.strangers, found.unsure) == ((), ())
    assert found.renames == {3: "anna-phone"}


def test_a_phone_that_calls_itself_as_a_host_is_the_phone() -> None:
    sly = node(3, "laptop", key=4, given_name="laptop-1")
    found = standing(house(PHONE), [HOME, LAPTOP, sly], RECORD)
    assert found.hosts["laptop"] == LAPTOP and found.devices["anna-phone"] == sly


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (node(3, "burglar", "people", 9), "neither a host of the inventory nor in headscale_devices"),
        (node(3, "anna-phone", "anna", 9), "neither a host"),
        (node(3, "iphone", "ben", 4), "belongs to anna, this node to ben"),
        (node(3, "iphone", key=4, tags=["tag:gateway-home"]), "belongs to anna, this node to tag:gateway-home"),
    ],
)
def test_a_node_that_nobody_designated_is_a_stranger(other: VpnNode, why: str) -> None:
    found = standing(house(PHONE), [HOME, LAPTOP, other], RECORD)
    assert [each.node for each in found.strangers] == [other]
    assert why in found.strangers[0].why


def test_of_two_nodes_of_a_device_the_one_with_the_latest_key_is_it() -> None:
    old, new = node(3, "iphone", key=4), node(5, "iphone-1", key=7)
    found = standing(house(PHONE), [old, new], RECORD)
    assert found.devices["anna-phone"] == new
    assert [(each.node, each.device) for each in found.strangers] == [(old, "anna-phone")]


def test_a_host_that_was_not_asked_is_never_a_stranger() -> None:
    again = node(4, "laptop", "people", 5, given_name="laptop-1")
    found = standing(house(), [HOME, LAPTOP, again], {})
    assert (found.hosts["laptop"], found.unsure, found.strangers) == (LAPTOP, (again,), ())
    # Wrong tags, or another owner, are repaired when hosts join, not here.
    assert not standing(house(), [node(1, "home", "anna"), LAPTOP], {}).strangers


def test_a_host_that_was_asked_is_known_by_its_addresses_and_gets_its_name_back() -> None:
    again = node(4, "laptop", "people", 5, given_name="laptop-1")
    found = standing(house(), [HOME, LAPTOP, again], {}, {"laptop": again.addresses})
    assert found.hosts["laptop"] == again and [each.node for each in found.strangers] == [LAPTOP]
    assert "laptop, which has other addresses" in found.strangers[0].why
    assert found.renames == {4: "laptop"}


def test_nothing_to_tidy_in_a_tidy_house() -> None:
    nodes = [HOME, LAPTOP, node(3, "iphone", key=4, given_name="anna-phone")]
    keys = [Key(1, NOW, True), Key(4, NOW, True), Key(7, NOW + timedelta(hours=1), False)]
    found = tidy(house(PHONE), standing(house(PHONE), nodes, RECORD), keys, RECORD, NOW)
    assert not found and found.announced == []


def test_a_device_that_left_the_list_goes_with_all_its_keys() -> None:
    nodes = [HOME, LAPTOP, node(3, "iphone", key=4)]
    keys = [Key(4, NOW, True), Key(7, NOW + timedelta(hours=1), False), Key(8, NOW + timedelta(hours=1), False)]
    found = tidy(house(), standing(house(), nodes, RECORD), keys, RECORD, NOW)
    # Key 8 was made by hand, and the record does not know it.
    assert [each.node.id for each in found.remove] == [3] and found.expire == (7, 8) and found.record == {}
    said = "\n".join(found.announced)
    for words in ("iphone", "number 3", "of anna", "100.64.0.3", "not in headscale_devices any more", "key 7"):
        assert words in said


def test_the_reusable_key_of_a_stranger_is_ended_too() -> None:
    nodes, keys = [node(3, "burglar", "people", 9)], [Key(9, NOW + timedelta(days=1), False)]
    assert tidy(house(), standing(house(), nodes, {}), keys, {}, NOW).expire == (9,)


def test_one_device_leaves_and_the_others_stay() -> None:
    record = {**RECORD, "ben-tablet": Minted("ben", (5,), "")}
    nodes = [HOME, LAPTOP, node(3, "iphone", key=4), node(6, "tablet", "ben", 5)]
    keys = [Key(7, NOW + timedelta(hours=1), False), Key(5, NOW, True)]
    found = leaving("anna-phone", nodes, keys, record, NOW)
    assert [each.node.id for each in found.remove] == [3] and found.expire == (7,)
    assert found.record == {"ben-tablet": record["ben-tablet"]}
    assert found.addresses == ("100.64.0.3", "fd7a:115c:a1e0::3")
    assert not leaving("zoe", nodes, keys, record, NOW)


def test_the_record_is_written_whole_and_for_root_alone(tmp_path: Path) -> None:
    target = tmp_path / "devices.json"
    script = record_script(RECORD).replace("/var/lib/private-ai/devices.json", str(target))
    subprocess.run(["sh", "-c", script], check=True)
    assert parse_record(target.read_text()) == RECORD
    assert target.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["devices.json"]


def test_keys_are_ended_before_nodes_go_and_names_are_free_before_they_are_given() -> None:
    found = standing(house(PHONE), [node(3, "anna-phone", "people", 9), node(4, "iphone", key=4)], RECORD)
    script = tidy_script(tidy(house(PHONE), found, [Key(9, None, False)], RECORD, NOW))
    steps = ["preauthkeys expire --id 9", "printf '%s\\n' 3 | xargs", "rename --identifier 4 anna-phone"]
    places = [script.index(step) for step in steps]
    assert places == sorted(places) and script.startswith("set -e\n")
    assert "devices.json" not in script


def test_names_go_into_shell_text_quoted() -> None:
    evil = Tidy((), (), {4: "x; reboot"}, None)
    assert "'x; reboot'" in tidy_script(evil)
    assert "dst 100.64.0.3 or dst [fd7a::3]" in cut_script(["100.64.0.3", "fd7a::3"])


# In the form of OpenClaw 2026.9.6, shortened.
PAIRINGS = json.dumps(
    {
        "pending": [{"requestId": "r1", "deviceId": "d3", "remoteIp": "100.64.0.9", "ts": 1795389309000}],
        "paired": [
            {"deviceId": "d1", "displayName": "Safari", "remoteIp": "::ffff:100.64.0.3", "approvedAtMs": 1795389309000},
            {"deviceId": "d2", "clientId": "control-ui", "remoteIp": "127.0.0.1", "operatorLabel": "Ben's"},
        ],
    }
)


def test_pairings_are_read_and_anything_else_is_an_error() -> None:
    since = datetime(2026, 11, 22, 23, 15, 9, tzinfo=UTC)
    assert parse_pairings(PAIRINGS, "home") == (
        Pairing("d1", "Safari", "100.64.0.3", False, since, device="d1", gateway="home"),
        Pairing("d2", "Ben's", "127.0.0.1", False, None, device="d2", gateway="home"),
        Pairing("r1", "d3", "100.64.0.9", True, since, device="d3", gateway="home"),
    )
    for text in ('{"ok": false, "error": {}}', "[]", "not reachable", '{"pending": [], "paired": [{}]}'):
        with pytest.raises(ValueError):
            parse_pairings(text, "home")


def test_a_pairing_from_an_address_that_no_node_has_is_an_orphan() -> None:
    found = parse_pairings(PAIRINGS, "home")
    assert [each.id for each in orphans(house(), found, ["100.64.0.3"])] == ["r1"]
    assert [each.id for each in orphans(house(), found, [])] == ["d1", "r1"]


def test_the_list_has_hosts_devices_and_strangers_with_their_browsers() -> None:
    phone = node(3, "iphone", key=4, expiry={"seconds": int(NOW.timestamp()) - 60}, created_at={"seconds": 1795300000})
    made, burglar = house(PHONE, TABLET), node(9, "burglar", "people", 12)
    record = {**RECORD, "ben-tablet": Minted("ben", (11,), "")}
    keys = [Key(4, NOW, True), Key(11, NOW + timedelta(hours=1), False)]
    found = standing(made, [HOME, phone, burglar], record)
    roll = entries(made, found, keys, record, parse_pairings(PAIRINGS, "home"), NOW)
    rows = {row[0]: dict(zip(HEAD, row, strict=True)) for row in table_rows(roll, NOW)}
    assert list(rows) == ["name", "home", "laptop", "anna-phone", "ben-tablet", "burglar"]
    assert rows["anna-phone"]["browsers"] == "Safari" and rows["anna-phone"]["key ends"].startswith("ended ")
    assert rows["ben-tablet"]["last seen"].startswith("not joined; key until ")
    assert rows["laptop"]["last seen"] == "not joined"
    assert rows["home"]["owner"] == "coordinator\ngateway-home\nmodel-host" and rows["anna-phone"]["what"] == "ios"
    assert rows["burglar"]["what"] == "not designated" and rows["burglar"]["browsers"] == "d3 (waits)"
    assert [each.id for each in roll.others] == ["d2"]


def test_rows_over_the_lan_let_no_device_in() -> None:
    made = house(PHONE)
    lan = [row for row in made.access if row.over == "lan"]
    assert lan and all(
        isinstance(row, Row) and made.devices[0] not in made.callers(row, made.member("home")) for row in lan
    )
