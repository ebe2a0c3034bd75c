"""What the verification expects of a house. It follows from the access table."""

from __future__ import annotations

from plan.base.profile import Listener
from plan.verification import (
    Forbidden,
    Node,
    Protocol,
    closed_over_vpn,
    declared,
    forbidden_to_container,
    misplaced,
    missing,
    nodes,
    open_over_vpn,
    open_to_lan,
)
from tests.unit.houses import SETTINGS, single, split


def listener(process: str, address: str, port: int, proto: Protocol = "tcp") -> Listener:
    return Listener(proto, address, port, process, "")


SERVES = (
    listener("sshd", "0.0.0.0", 22),
    listener("sshd", "::", 22),
    listener("headscale", "*", 443),
    listener("headscale", "*", 3478, "udp"),
    listener("headscale", "127.0.0.1", 9090),
    listener("tailscaled", "0.0.0.0", 41641, "udp"),
    listener("tailscaled", "100.64.0.1", 58436),
    listener("pasta", "*", 18789),
    listener("ollama", "127.0.0.1", 11434),
    listener("llama-server", "127.0.0.1", 43721),
)


def test_outsiders_and_administrators_have_their_rows_and_no_others() -> None:
    house = split()
    open_tcp = {member.name: open_to_lan(house, member, "tcp", admin=False) for member in house.members}
    assert open_tcp == {"brain": set(), "gate": set(), "hub": {443}, "laptop": set()}
    assert open_to_lan(house, house.member("hub"), "tcp", admin=True) == {22, 443}
    assert open_to_lan(house, house.member("hub"), "udp", admin=False) == {3478, 41641}
    assert open_to_lan(house, house.member("laptop"), "udp", admin=False) == {41641}


def test_a_new_row_is_expected_without_further_ado() -> None:
    row = {"id": "print", "from": "lan", "to": "clients", "port": "631/tcp", "over": "lan", "why": "printing"}
    house = single(access_table=[*SETTINGS["access_table"], row])
    assert open_to_lan(house, house.member("laptop"), "tcp", admin=False) == {631}
    assert open_to_lan(house, house.member("home"), "tcp", admin=False) == {443}


def test_what_the_settings_say_of_people_s_programs_is_known() -> None:
    row = {"id": "web", "from": "lan", "to": "gateway", "port": "80/tcp", "over": "lan", "why": "a page"}
    house = split(access_table=[*SETTINGS["access_table"], row], firewall_shut_off=["5000/udp"])
    gate, brain = house.member("gate"), house.member("brain")
    assert declared(listener("nginx", "*", 80), house, gate) and not declared(listener("nginx", "*", 80), house, brain)
    assert not declared(listener("game", "*", 80, "udp"), house, gate)
    assert declared(listener("game", "*", 5000, "udp"), house, brain)
    # A default row allows only the house's own program.
    assert not declared(listener("nginx", "*", 443), house, house.member("hub"))


def test_over_the_vpn_the_source_s_roles_count() -> None:
    house = split()
    laptop, gate, brain, hub = (house.member(name) for name in ("laptop", "gate", "brain", "hub"))
    assert open_over_vpn(house, laptop, gate) == {18789}
    assert open_over_vpn(house, gate, brain) == {11434}
    assert not open_over_vpn(house, laptop, brain)
    assert not open_over_vpn(house, gate, hub)


def test_over_the_vpn_the_table_s_ports_and_whatever_listens_are_tried() -> None:
    house = single()
    tried = closed_over_vpn(house, house.member("laptop"), house.member("home"), SERVES)
    # 18789 is left out, because it is allowed. 58436 is left out, because tailscaled uses it between nodes.
    assert tried == {22, 443, 9090, 11434, 43721}


def test_programs_where_they_belong_are_not_misplaced() -> None:
    assert misplaced(single(), SERVES) == []


def test_every_way_of_listening_too_widely_is_found() -> None:
    wrong = (
        listener("ollama", "*", 11434),
        listener("systemd", "10.77.0.13", 11434),
        listener("llama-server", "0.0.0.0", 43721),
        listener("headscale", "::", 9090),
        listener("tailscaled", "0.0.0.0", 8080),
    )
    found = misplaced(split(), wrong)
    assert len(found) == len(wrong)
    assert found[0] == "ollama has Ollama's 11434/tcp on *"


def test_every_row_needs_its_listener() -> None:
    house = single()
    home = house.member("home")
    assert missing(house, home, SERVES, ["100.64.0.1"]) == []
    assert missing(house, home, [each for each in SERVES if each.port != 18789], ["100.64.0.1"]) == [
        "18789/tcp (openclaw) on 100.64.0.1"
    ]


def test_a_model_host_for_a_gateway_elsewhere_listens_on_both_vpn_addresses() -> None:
    house, common = split(), [listener("sshd", "*", 22), listener("tailscaled", "*", 41641, "udp")]
    vpn = ["100.64.0.3", "fd7a:115c:a1e0::3"]
    alone = [*common, listener("ollama", "127.0.0.1", 11434), listener("systemd", "100.64.0.3", 11434)]
    assert missing(house, house.member("brain"), alone, vpn) == ["11434/tcp (ollama) on fd7a:115c:a1e0::3"]


def test_the_nodes_are_the_hosts_with_tags_or_a_user() -> None:
    assert nodes(split()) == {
        "hub": Node(frozenset({"tag:coordinator"}), ""),
        "gate": Node(frozenset({"tag:gateway-gate"}), ""),
        "brain": Node(frozenset({"tag:model-host"}), ""),
        "laptop": Node(frozenset(), "people"),
    }


def test_the_container_is_kept_from_the_world_the_lan_its_host_and_the_vpn() -> None:
    house = split()
    listeners = {
        "gate": [listener("sshd", "*", 22), listener("pasta", "*", 18789), listener("resolved", "127.0.0.53", 53)],
        "brain": [listener("sshd", "*", 22), listener("ollama", "127.0.0.1", 11434), listener("systemd", "::", 11434)],
    }
    vpn = {"gate": ["100.64.0.2"], "brain": ["100.64.0.3"]}
    world = [("198.51.100.10", 443)]
    found = forbidden_to_container(house, house.member("gate"), house.members, listeners, vpn, world, ["169.254.1.2"])
    groups = {group: {(each.address, each.port) for each in found if each.group == group} for group in _groups(found)}
    assert groups["internet"] == {("198.51.100.10", 443)}
    assert groups["coordinator"] == {("10.77.0.11", 443), ("fd4c:4142:77::11", 443)}
    hosts = ("127.0.0.1", "::1", "169.254.1.2")
    # The container's own port, and the port at which it reaches Ollama, are no ports of the host.
    assert groups["host"] == {(address, port) for address in hosts for port in (22, 53)}
    assert ("10.77.0.20", 22) in groups["lan"]
    assert groups["vpn"] == {("100.64.0.2", 22), ("100.64.0.3", 22)}


def _groups(found: tuple[Forbidden, ...]) -> set[str]:
    return {each.group for each in found}
