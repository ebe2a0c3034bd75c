"""Hostile answers of hosts, programs, devices and browsers are understood, or are an error. They cause no harm
anywhere.

If an attacker controls a host, its answers must not give control over the controller or other hosts.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from facts.base.profile import HostProfile, parse_profile
from facts.ca import CaCertificate, CertificateState
from facts.engine.component_state import ComponentState
from facts.headscale import Headscale
from facts.ollama import ModelStores, Ollama
from facts.tailscale import Tailscale
from plan.devices.vpn_nodes import node_of, parse_record
from plan.engine.errors import SettingError
from plan.firewall.package_sources import apt_of
from plan.firewall.rules import ruleset
from plan.ollama.recorded_choice import chosen
from plan.openclaw.browsers import orphans, parse_pairings
from tests.unit import houses
from tests.unit.hostile import ALPHABET, is_address, is_label, near, texts, values
from tests.unit.test_component import COMPLETE
from tests.unit.test_devices import PAIRINGS
from tests.unit.test_facts import HEADSCALE, TAILSCALE
from tests.unit.test_profile import RECORDED
from tests.verify.printed import accounts, fragments, routers, rules, status_fields
from tests.verify.state import Section, parse_sections

OLLAMA = '/var/lib/ollama/models/blobs/sha256-aa 12\n--- bb\n{"models":[{"name":"smollm2:135m","context_length":8192}]}'
MODEL = (
    '{"model": "qwen3:8b", "context": 16384, "place": "RAM", "need_gib": 7.9, "budget_gib": 12, "manifest_sha256": "a"}'
)
GOOD: dict[type[FactBase[Any]], str] = {
    CaCertificate: "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\nend",
    CertificateState: "good",
    ComponentState: COMPLETE,
    Headscale: HEADSCALE,
    ModelStores: f"model smollm2/135m\n12 /root/.ollama/models/blobs/sha256-{'a' * 64}",
    Ollama: OLLAMA,
    Tailscale: TAILSCALE,
    HostProfile: RECORDED,
}
#: JSON that is nested so deeply that Python's parser fails.
DEEP = "[" * 100_000
json_values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [None, True, False, -1, 0, 10**30, 1.5, 1e300, float("inf"), float("nan"), "", [], {}, [[]], {"a": []}]
    ),
    texts.map(lambda text: text.encode(errors="replace").decode()),
)


@st.composite
def changed_json(draw: st.DrawFn, text: str) -> str:
    """A JSON text in which one value, of any kind, is replaced."""
    document = [json.loads(text)]
    places: list[tuple[Any, Any]] = []

    def walk(container: Any) -> None:
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            places.append((container, key))
            if isinstance(container[key], dict | list):
                walk(container[key])

    document = copy.deepcopy(document)
    walk(document)
    container, key = draw(st.sampled_from(places))
    container[key] = draw(json_values)
    return json.dumps(document[0])


@st.composite
def changed_lines(draw: st.DrawFn, text: str) -> list[str]:
    """The lines of a text with something inserted, removed or changed, also inside JSON."""
    lines = text.splitlines()
    at = draw(st.integers(0, len(lines) - 1))
    match draw(st.sampled_from(["insert", "remove", "cut", "replace", "piece", "json"])):
        case "insert":
            lines.insert(at, draw(texts))
        case "remove":
            del lines[at]
        case "cut":
            lines = lines[:at]
        case "replace":
            lines[at] = draw(texts)
        case "piece":
            lines[at] = draw(near(lines[at]))
        case "json":
            try:
                lines[at] = draw(changed_json(lines[at]))
            except (ValueError, TypeError):
                lines[at] = DEEP
    return "\n".join(lines).splitlines()


def test_a_clock_that_is_no_number_is_within_no_limit() -> None:
    with pytest.raises(FactProcessError, match="no number"):
        HostProfile().process(RECORDED.replace("1795377040.287046461", "nan").splitlines())


@given(st.sampled_from(list(GOOD)), st.data())
def test_a_fact_is_understood_or_an_error_that_pyinfra_knows(fact: type[FactBase[Any]], data: st.DataObject) -> None:
    # Any other error would end the whole run, for all hosts.
    lines = data.draw(changed_lines(GOOD[fact]))
    try:
        found = fact().process(lines)
    except FactProcessError as error:
        assert len(str(error)) < 3000
        return
    if fact is Tailscale:
        assert all(map(is_address, found.addresses))
    if fact is Headscale:
        assert all(is_address(each) for node in found.nodes for each in node.addresses)
        assert all(map(is_label, found.record))


#: Fact, its answer, and the number of the part of the answer that is JSON with more than one value.
ANSWERS: list[tuple[type[FactBase[Any]], str, int]] = [
    (Headscale, HEADSCALE, 2),
    (Tailscale, TAILSCALE, 0),
    (Tailscale, TAILSCALE, 1),
]


@given(st.sampled_from(ANSWERS), st.data())
def test_a_value_in_an_answer_of_another_kind(
    answer: tuple[type[FactBase[Any]], str, int], data: st.DataObject
) -> None:
    fact, text, number = answer
    parts = text.split("\n--- next\n")
    parts[number] = data.draw(changed_json(parts[number]))
    try:
        fact().process("\n--- next\n".join(parts).splitlines())
    except FactProcessError:
        return


@given(near("100.64.0.1", "fd7a:115c:a1e0::1") | values)
@example("100.64.0.1\nVolume=/:/host")
@example("fd7a::1%\nExecStartPre=/bin/sh")
@example("1' ; reboot; '")
def test_an_address_that_a_host_says_it_has(value: Any) -> None:
    """Such addresses are written into units, into the container's list of hosts, and into commands on the gateway."""
    status = {"BackendState": "Running", "TailscaleIPs": [value]}
    node = {"id": 1, "given_name": "x", "ip_addresses": [value]}
    try:
        lines = [json.dumps(status, default=str), *TAILSCALE.splitlines()[2:]]
        found: tuple[str, ...] = Tailscale().process(lines).addresses
    except FactProcessError:
        found = ()
    assert all(map(is_address, found))
    try:
        found = node_of(node).addresses
    except ValueError:
        return
    assert all(map(is_address, found))


@given(texts, texts, texts)
def test_the_name_of_a_node_commands_no_terminal(name: str, given_name: str, user: str) -> None:
    found = node_of({"id": 1, "name": name, "given_name": given_name, "user": {"name": user}, "tags": []})
    assert found.name.isprintable() and found.given_name.isprintable() and found.user.isprintable()
    for said, plain in ((name, found.name), (given_name, found.given_name)):
        # A good name is not changed.
        assert said == plain or not is_label(said)
        assert is_label(said) == is_label(plain)


@given(changed_json(PAIRINGS))
@example(PAIRINGS.replace("100.64.0.9", "unknown"))
def test_browsers_are_understood_or_an_error(text: str) -> None:
    try:
        found = parse_pairings(text, "home")
    except ValueError as error:
        assert str(error).isprintable()
        return
    # Addresses that are none must not be an error here.
    orphans(houses.single(), found, [])
    for each in found:
        for words in (each.name, each.platform, each.role, each.address, each.shown_id, each.device):
            assert words.isprintable()


@given(changed_json('{"anna-phone": {"owner": "anna", "keys": [3], "minted": "2026-11-22T12:00:00+00:00"}}'), texts)
@example('{"../../etc/cron": {"owner": "anna", "keys": [3], "minted": ""}}', "")
def test_the_record_of_devices(text: str, name: str) -> None:
    """A name from the record becomes the name of a file on the controller."""
    for given_text in (text, json.dumps({name: {"owner": "a", "keys": [1], "minted": ""}})):
        try:
            found = parse_record(given_text)
        except ValueError:
            continue
        assert all(map(is_label, found))


@given(changed_json(MODEL))
@example(DEEP)
def test_the_record_of_a_choice(text: str) -> None:
    try:
        chosen(json.loads(text))
    except (ValueError, RecursionError):
        return


@given(st.one_of(near("http://10.77.0.1:8888/", "http://proxy.lan:3128", "https://u:p@[fd00::1]:8080"), texts))
@example("http://[fe80::1%25eth0; accept]:3128")
@example("http://proxy:99999")
@example("http://[x")
def test_the_package_proxy_that_a_host_says_it_has(url: str) -> None:
    """The proxy becomes a firewall rule."""
    house = houses.single()
    lines = len(ruleset(house, house.gateways[0], apt_of("home", ["http://10.77.0.1:8888/"])).splitlines())
    try:
        apt = apt_of("home", [url])
    except SettingError as error:
        assert "host home: apt" in error.setting and str(error).isprintable()
        return
    text = ruleset(house, house.gateways[0], apt)
    assert len(text.splitlines()) == lines
    for name, port in apt.proxies:
        assert 0 < port < 65536
        assert is_address(name) or set(name) <= set(ALPHABET + "._-")


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"), max_size=15)
    | st.sampled_from(['a",pid=1,', '",pid=1,fd=3),('])
)
@example('",pid=1,fd=3)')
@example('x",pid=92,')
def test_a_program_cannot_pass_for_another_by_its_name(name: str) -> None:
    """A program chooses its own name of up to 15 bytes. ss prints it unchanged."""
    name = name.encode()[:15].decode(errors="ignore")
    line = f'tcp LISTEN 0 5 0.0.0.0:8080 0.0.0.0:* users:(("{name}",pid=127,fd=3))'
    text = RECORDED.replace("@@ groups", f"{line}\n@@ groups")
    try:
        found = parse_profile(text.splitlines(), sent=0, received=0)
    except FactProcessError:
        return
    (listener,) = (each for each in found.listeners if each.port == 8080)
    # In the worst case its unit is unknown. Then the program counts as foreign.
    assert listener.unit in ("stun.service", "")


@given(st.sampled_from(["END", "text"]), texts, texts)
def test_the_parts_of_what_the_verification_reads(_: str, text: str, more: str) -> None:
    parse_sections(f"{text}\n--8<-- {more}\n{more}\n--8<-- x 0")
    fragments(text)
    status_fields(text)
    accounts(f"task 1 | {text}\n{more}")
    assert all(map(is_address, routers(f"default via {text}\n via {more} dev x")))
    assert isinstance(rules({"nftables": [{"rule": {"comment": text}}]}), list)
    Section(0, text).json()
