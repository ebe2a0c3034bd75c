"""Which clients have a version of Tailscale that cannot reach the house's hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from plan.tailscale.client_versions import client_versions, cut_off_from, is_cut_off
from tasks.tailscale import too_new
from tests.unit.test_health import NETMAP

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("headscale", "tailscale", "since"),
    [
        ("0.29.3", "1.102.3", "1.106"),
        ("0.29.7", "1.104.0", "1.106"),
        ("0.29.8", "1.102.3", ""),
        ("0.30.0", "1.102.3", ""),
        ("0.29.3", "1.106.0", ""),
        ("0.29.3", "1.110.1", ""),
    ],
)
def test_new_clients_reach_old_hosts_only_when_headscale_tells_them_who_is_old(
    headscale: str, tailscale: str, since: str
) -> None:
    assert cut_off_from(headscale, tailscale) == since


@pytest.mark.parametrize(
    ("version", "is_it"),
    [
        ("1.102.3", False),
        ("1.98.9", False),
        ("1.106.0", True),
        ("1.106.2-t1a2b3c4d5-g123456789", True),
        ("1.110", True),
        ("2.0.0", True),
        ("", False),
        ("date.20261128", False),
        ("9" * 5000 + ".1", True),
    ],
)
def test_a_client_is_cut_off_from_that_version_on(version: str, is_it: bool) -> None:
    assert is_cut_off(version, "1.106") is is_it
    assert not is_cut_off(version, "")


def test_the_versions_stand_beside_the_addresses_of_their_nodes() -> None:
    assert client_versions(NETMAP) == {
        "100.64.0.1": "1.102.3",
        "fd7a:115c:a1e0::1": "1.102.3",
        "100.64.0.2": "1.102.3",
        "fd7a:115c:a1e0::2": "1.102.3",
        "100.64.0.3": "1.102.9-t3a2b1c0d9-g1234567890",
    }


def test_a_node_without_a_version_and_a_host_without_peers_are_no_error() -> None:
    assert client_versions('{"SelfNode": {"Addresses": ["100.64.0.1/32"]}, "Peers": null}') == {"100.64.0.1": ""}


@pytest.mark.parametrize("text", ["", "null", "[]", '{"Peers": [{"Addresses": ["nowhere"]}]}', '{"Peers": 3}'])
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="map of the VPN"):
        client_versions(text)


def test_a_version_is_harmless_to_a_terminal() -> None:
    said = client_versions('{"Peers": [{"Addresses": ["100.64.0.9/32"], "Hostinfo": {"IPNVersion": "1\\u001b[2J"}}]}')
    assert said == {"100.64.0.9": "1?[2J"}


def test_the_pages_name_the_version_that_cannot_reach_the_hosts_of_today() -> None:
    """If a pin changes so that new clients can reach the hosts, the warning must be removed from the pages."""
    for page in ("devices", "troubleshooting", "enrolment"):
        text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
        assert ("Tailscale 1.106 or newer" in text) == (too_new() == "1.106"), page
