"""The promises that the verification checks: packet filters, secrets, owners, certificates, the recorded model
choice."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from plan.base.profile import Listener
from plan.engine.want import Program, ProgramPart
from plan.headscale.packet_filters import house_filter, node_passages, packet_filter, server_passages
from plan.ollama.model_choice import choose
from plan.ollama.model_fit import Hardware
from plan.ollama.recorded_choice import chosen, record
from plan.verification import (
    kind,
    rows_at,
    secret_files,
    served_at,
    service_of,
    service_users,
    tls_name,
    units_of,
)
from tests.unit import houses
from tests.verify.probes.programs import digest as folder_digest
from tests.verify.probes.secrets import Seeker
from tests.verify.test_ca import days_left, root_claims
from tests.verify.test_headscale import usable_keys
from tests.verify.test_openclaw import differences

VPN = {
    "brain": ("100.64.0.1", "fd7a:115c:a1e0::1"),
    "gate": ("100.64.0.2", "fd7a:115c:a1e0::2"),
    "hub": ("100.64.0.3", "fd7a:115c:a1e0::3"),
    "laptop": ("100.64.0.4", "fd7a:115c:a1e0::4"),
}


def test_the_packet_filter_lets_in_the_table_s_rows_and_nothing_else() -> None:
    house = houses.split()
    gate = packet_filter(house, house.member("gate"), VPN)
    assert len(gate) == 4
    assert ("100.64.0.4", "100.64.0.2", 6, 18789, 18789) in gate
    assert {(source, port) for source, _, _, port, _ in packet_filter(house, house.member("brain"), VPN)} == {
        ("100.64.0.2", 11434),
        ("fd7a:115c:a1e0::2", 11434),
    }
    assert packet_filter(house, house.member("hub"), VPN) == packet_filter(house, house.member("laptop"), VPN) == set()


def test_a_range_of_neighbours_is_taken_apart() -> None:
    def rule(sources: str) -> list[dict[str, object]]:
        to = {"IP": "100.64.0.1/32", "Ports": {"First": 80, "Last": 80}}
        return [{"SrcIPs": [sources], "DstPorts": [to], "IPProto": [6]}]

    found = server_passages(rule("100.64.0.2-100.64.0.4"))
    assert found == {(f"100.64.0.{last}", "100.64.0.1", 6, 80, 80) for last in (2, 3, 4)}
    assert len(server_passages(rule("fd7a:115c:a1e0::2-fd7a:115c:a1e0::4"))) == 3
    # A wide range is not taken apart. It matches no row of the table.
    wide = "100.64.0.0-100.127.255.255"
    assert server_passages(rule(wide)) == {(wide, "100.64.0.1", 6, 80, 80)}


def test_a_node_s_own_packet_filter_is_taken_apart() -> None:
    to = {"Net": "100.64.0.2/32", "Ports": {"First": 18789, "Last": 18789}}
    rule = {"Srcs": ["100.64.0.4/32"], "Dsts": [to], "IPProto": [6]}
    assert node_passages([rule]) == {("100.64.0.4", "100.64.0.2", 6, 18789, 18789)}
    wide = {"Srcs": ["100.64.0.0/10"], "Dsts": [{**to, "Ports": {"First": 0, "Last": 65535}}], "IPProto": None}
    assert node_passages([wide]) == {("100.64.0.0/10", "100.64.0.2", 0, 0, 65535)}
    pair = {**rule, "Srcs": ["100.64.0.4/31"]}
    assert {source for source, *_ in node_passages([pair])} == {"100.64.0.4", "100.64.0.5"}
    assert {source for source, *_ in node_passages([{**rule, "Srcs": ["*"]}])} == {"*"}
    assert node_passages(None) == set()


def test_what_the_control_server_hands_out_is_the_same_in_other_words() -> None:
    house = houses.split()
    rule = {
        "SrcIPs": ["100.64.0.4", "fd7a:115c:a1e0::4"],
        "DstPorts": [{"IP": "100.64.0.2", "Ports": {"First": 18789, "Last": 18789}}],
        "IPProto": [6],
    }
    assert server_passages([rule]) == {
        ("100.64.0.4", "100.64.0.2", 6, 18789, 18789),
        ("fd7a:115c:a1e0::4", "100.64.0.2", 6, 18789, 18789),
    }
    assert server_passages(None) == server_passages([]) == set()
    everything = [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]}]
    assert server_passages(everything) == {("*", "*", 0, 0, 65535)}
    assert house_filter(house, VPN) == {each for member in house.members for each in packet_filter(house, member, VPN)}


def test_a_row_to_people_s_computers_leads_to_their_devices_too() -> None:
    row = {"id": "share", "from": "clients", "to": "clients", "port": "445/tcp", "over": "vpn", "why": "files"}
    house = houses.single(
        access_table=[*houses.SETTINGS["access_table"], row],
        headscale_devices=[{"name": "phone", "owner": "people", "kind": "ios"}],
    )
    vpn = {"laptop": ("100.64.0.2",), "phone": ("100.64.0.3",)}
    to_phone = {each for each in house_filter(house, vpn) if each[1] == "100.64.0.3"}
    assert to_phone == {("100.64.0.2", "100.64.0.3", 6, 445, 445), ("100.64.0.3", "100.64.0.3", 6, 445, 445)}


def test_secrets_are_where_their_services_are() -> None:
    house = houses.split()
    paths = {member.name: {each.path for each in secret_files(member)} for member in house.members}
    assert paths["laptop"] == {"/var/lib/tailscale/tailscaled.state"}
    assert "/var/lib/private-ai/ca/ca.key" in paths["hub"]
    assert not paths["gate"] & {"/var/lib/private-ai/ca/ca.key", "/etc/headscale/tls/key.pem"}
    token = next(each for each in secret_files(house.member("gate")) if each.path.endswith("token"))
    assert token.described == "openclaw openclaw 0400"
    # Of a folder there is no content to look for elsewhere.
    assert {each.path for each in secret_files(house.member("gate"), folders=True)} - paths["gate"] == {
        "/var/lib/openclaw/backup"
    }


def test_service_users_and_what_is_asked() -> None:
    house = houses.split()
    assert service_users(house, house.member("laptop")) == ()
    assert service_users(house, house.member("brain")) == ("ollama", "ollama-vpn", "root")
    rows = {row.id: row for row in rows_at(house, house.member("gate"))}
    assert set(rows) == {"ssh", "openclaw"}
    assert (kind(rows["openclaw"]), tls_name(house, rows["openclaw"], house.member("gate"))) == (
        "openclaw",
        "gate.vpn.house.internal",
    )
    assert (kind(rows["ssh"]), tls_name(house, rows["ssh"], house.member("gate"))) == ("ssh", "-")
    assert service_of(house, house.member("gate"), 18789) == "gate/openclaw"
    assert service_of(house, house.member("gate"), 443) == "gate 443/tcp"


def test_openclaw_answers_at_ipv4_addresses_only() -> None:
    house = houses.split()
    rows = {row.id: row for row in house.access}
    assert served_at(rows["openclaw"], VPN["gate"]) == ("100.64.0.2",)
    assert served_at(rows["ollama"], VPN["brain"]) == VPN["brain"]


def test_a_port_of_the_table_has_owners_and_another_none() -> None:
    house = houses.single()
    assert units_of(Listener("tcp", "*", 443, "headscale", "headscale.service"), house) == ("headscale.service",)
    assert units_of(Listener("udp", "*", 443, "x", ""), house) == ()


def test_the_record_of_a_choice_comes_back_and_does_not_depend_on_the_moment() -> None:
    small, roomy = Hardware(ram_gib=24, disk_free_gib=20), Hardware(ram_gib=24, disk_free_gib=500)
    first = choose(small, wanted_context=None, named="smollm2:135m", registry_reachable=False)
    second = choose(roomy, wanted_context=None, named="smollm2:135m", registry_reachable=True, present=["smollm2:135m"])
    assert record(first, "ab", (24576, 0)) == record(second, "ab", (24576, 0))
    back = chosen(record(first, "ab", (24576, 0)))
    assert (back.choice.entry, back.choice.context, back.manifest_sha256) == (first.entry, first.context, "ab")
    assert str(first.context) in back.choice.why


@pytest.mark.parametrize("found", [{}, {"model": "nobody:1b"}, {"model": "smollm2:135m", "context": "many"}])
def test_a_record_that_is_not_understood_is_an_error(found: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not understood|no model|invalid literal"):
        chosen(found)


def test_differences_name_the_place() -> None:
    planned, found = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"b": 3, "c": [1]}, "e": True}
    assert list(differences(planned, found, "")) == ["a.b is 3 instead of 1", "d is not set", "e is True, not planned"]


def certificate(*permitted: x509.GeneralName, critical: bool = True, path: int | None = 0) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(7).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=3650))
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=path), critical=True)
    if permitted:
        made = made.add_extension(x509.NameConstraints(list(permitted), None), critical=critical)
    return made.sign(key, hashes.SHA256())


def test_a_root_is_for_the_house_only() -> None:
    house = houses.single()
    ours = (
        x509.DNSName("house.internal"),
        x509.IPAddress(ipaddress.ip_network("100.64.0.0/10")),
        x509.IPAddress(ipaddress.ip_network("fd7a:115c:a1e0::/48")),
    )
    assert all(root_claims(certificate(*ours), house).values())
    for wrong in (
        certificate(),
        certificate(*ours, critical=False),
        certificate(*ours, path=None),
        certificate(*ours, x509.DNSName("example.com")),
        certificate(x509.DNSName("internal"), *ours[1:]),
    ):
        assert not all(root_claims(wrong, house).values())


def test_days_left() -> None:
    assert days_left("notAfter=Jan  1 00:00:00 2000 GMT") is not None
    assert (days_left("notAfter=Jan  1 00:00:00 2000 GMT") or 0) < 0
    assert days_left("unable to load certificate") is None


def test_a_secret_is_named_and_never_shown() -> None:
    seeker = Seeker({"/etc/openclaw/token": [b"0123456789abcdef"]})
    assert seeker.names(b"x --token 0123456789abcdef y") == {"/etc/openclaw/token"}
    assert seeker.names(b"key hskey-auth-QcH2UzSIAnDJ-" + b"x" * 40) == {"a join key"}
    # Headscale's shortened form of a key, and the first line of a private key inside a program, are no secrets.
    assert seeker.names(b"hskey-auth-QcH2UzSIAnDJ-*** -----BEGIN EC PRIVATE KEY-----\x00") == set()
    body = b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 64 + b"\n"
    assert seeker.names(body) == {"a private key"}


def test_the_digest_of_a_folder_is_the_one_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib-x").mkdir()
    (tmp_path / "bin" / "a").write_text("content")
    (tmp_path / "lib-x" / "b").write_text("more")
    (tmp_path / "lib").symlink_to("lib-x")
    # The files are in the same order as in artifacts/store.py.
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_symlink() or path.is_file())
    parts = tuple(
        ProgramPart(str(path.relative_to(tmp_path)), path, "", 0, "0777", str(path.readlink()))
        if path.is_symlink()
        else ProgramPart(
            str(path.relative_to(tmp_path)), path, hashlib.sha256(path.read_bytes()).hexdigest(), 4, "0644"
        )
        for path in paths
    )
    program = Program("ollama", "1.2", parts)
    assert program.prefix.endswith(f"-{folder_digest(tmp_path)}")
    (tmp_path / "bin" / "a").write_text("Content")
    assert not program.prefix.endswith(f"-{folder_digest(tmp_path)}")


def test_keys_that_still_let_somebody_in() -> None:
    soon, past = {"expiration": {"seconds": 200}}, {"expiration": {"seconds": 50}}
    keys = [
        {"id": 1, "used": True, **soon},
        {"id": 2, "used": False, **past},
        {"id": 3, "used": False, **soon},
        {"id": 4, "used": True, "reusable": True, **soon},
    ]
    assert usable_keys(keys, (), 100) == ["key 3", "key 4, which can be used again and again"]
    assert usable_keys(keys, (3, 4), 100) == ["key 4, which can be used again and again"]
