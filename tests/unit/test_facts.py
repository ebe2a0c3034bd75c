"""The output of programs is parsed. If it is not understood, that is an error, never an empty answer."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from pyinfra.api.exceptions import FactProcessError

from facts.ca import CertificateState
from facts.headscale import Headscale
from facts.ollama import ModelStores, Ollama, SoundBlobs
from facts.tailscale import NodeFilter, Tailscale
from operations.tailscale import apart, owned_by_another, unknown

# Recorded from Headscale 0.29.3, shortened.
HEADSCALE = """\
yes
--- next
[{"id":1,"name":"people","created_at":{"seconds":1795377522,"nanos":1}}]
--- next
[{"id":1,"name":"home","given_name":"home","ip_addresses":["100.64.0.1"],"online":true,"tags":["tag:gateway"],
"user":{"id":2147455555,"name":"tagged-devices"},"pre_auth_key":{"id":3,"used":true},"last_seen":{"seconds":1795377600}}]
--- next
[{"id":3,"key":"hskey-auth-HUybv9qVhh3e-***","used":true,"expiration":{"seconds":1795389872,"nanos":868305239}}]
--- next
{"anna-phone": {"owner": "anna", "keys": [3], "minted": "2026-11-22T12:00:00+00:00"}}"""

# Recorded from Tailscale 1.102.3, shortened.
TAILSCALE = """\
{"Version":"1.102.3","BackendState":"Running","TailscaleIPs":["fd7a:115c:a1e0::1","100.64.0.1"],
"Self":{"HostName":"home","Tags":["tag:coordinator"]}}

--- next
{"ControlURL":"https://headscale.house.internal:443","RouteAll":false,"ExitNodeID":"","CorpDNS":true,"RunSSH":false,
"RunWebClient":false,"ShieldsUp":false,"Hostname":"home","AdvertiseRoutes":null,"NetfilterMode":0,
"AutoUpdate":{"Check":false,"Apply":false},"AppConnector":{"Advertise":false},"PostureChecking":false}

--- next
{}"""


def test_headscale() -> None:
    state = Headscale().process(HEADSCALE.splitlines())
    assert state.answers and state.users == {"people": 1}
    assert state.nodes[0].tags == {"tag:gateway"} and state.nodes[0].user == "" and state.nodes[0].key == 3
    assert state.keys[0].spent and state.record["anna-phone"].keys == (3,)
    bare = Headscale().process(["", *["--- next", "null"] * 3, "--- next"])
    assert not bare.answers and (bare.users, bare.nodes, bare.keys, bare.record) == ({}, (), (), {})
    for bad in (
        "Error: cannot connect",
        HEADSCALE.replace('"owner"', '"own"'),
        HEADSCALE.replace('"given_name"', '"g"'),
    ):
        with pytest.raises(FactProcessError):
            Headscale().process(bad.splitlines())


def test_tailscale() -> None:
    state = Tailscale().process(TAILSCALE.splitlines())
    assert state.joined and state.accept_dns
    assert state.addresses == ("100.64.0.1", "fd7a:115c:a1e0::1")
    assert state.tags == {"tag:coordinator"} and state.control == "https://headscale.house.internal:443"
    assert not Tailscale().process(["nothing"]).joined
    with pytest.raises(FactProcessError):
        Tailscale().process(["{", "--- next", "{}", "--- next", "{}"])


def test_what_tailscale_should_not_do_is_switched_off() -> None:
    assert Tailscale().process(TAILSCALE.splitlines()).still_on == ()
    text = TAILSCALE.replace('"RunSSH":false', '"RunSSH":true').replace('"Apply":false', '"Apply":true')
    assert Tailscale().process(text.splitlines()).still_on == ("--auto-update=false", "--ssh=false")
    offers = TAILSCALE.replace('"AdvertiseRoutes":null', '"AdvertiseRoutes":["0.0.0.0/0"]')
    assert Tailscale().process(offers.splitlines()).still_on == ("--advertise-exit-node=false", "--advertise-routes=")
    with pytest.raises(FactProcessError):
        Tailscale().process(TAILSCALE.replace('"ShieldsUp":false,', "").splitlines())


def test_a_port_that_tailscale_itself_answers_on_is_seen() -> None:
    assert not Tailscale().process(TAILSCALE.splitlines()).serves
    text = TAILSCALE.removesuffix("{}") + '{"TCP":{"8443":{"TCPForward":"127.0.0.1:11434"}}}'
    assert Tailscale().process(text.splitlines()).serves
    # Before a host has joined, Tailscale may answer `null`.
    assert not Tailscale().process((TAILSCALE.removesuffix("{}") + "null").splitlines()).serves


def test_a_host_that_has_not_reached_a_relay_yet_has_joined() -> None:
    """Otherwise such a host would get a key that it does not need."""
    starting = TAILSCALE.replace("Running", "Starting")
    assert Tailscale().process(starting.splitlines()).joined
    # Without an address, the node has not connected to the control server: the host may have to join.
    alone = re.sub(r'"TailscaleIPs":\[[^]]*\]', '"TailscaleIPs":null', starting)
    assert alone != starting and not Tailscale().process(alone.splitlines()).joined


def test_a_host_that_is_logged_out_has_not_joined() -> None:
    text = TAILSCALE.replace("Running", "NeedsLogin")
    assert not Tailscale().process(text.splitlines()).joined


def test_a_host_is_joined_when_the_control_server_says_so_too() -> None:
    seen, known = Tailscale().process(TAILSCALE.splitlines()), Headscale().process(HEADSCALE.splitlines())
    assert apart(seen, seen.control, ["tag:coordinator"]) == "" == unknown(seen, known)
    assert apart(seen, "https://x", ["tag:coordinator"]).startswith("it belongs to https://headscale")
    assert apart(seen, seen.control, []) == "its node has tag:coordinator"
    # If its node is deleted, tailscaled does not change its own state.
    assert "does not know its node" in unknown(seen, replace(known, nodes=()))
    # tailscale_user was changed, so the node belongs to another person. A server belongs to no person.
    theirs = replace(known, nodes=tuple(replace(node, user="bert") for node in known.nodes))
    assert owned_by_another(seen, theirs, "anna") == "its node belongs to bert"
    assert owned_by_another(seen, theirs, "bert") == "" == owned_by_another(seen, theirs, "")
    assert owned_by_another(seen, replace(known, nodes=()), "anna") == ""
    # If the control server does not answer, it is not known whether it knows the node.
    assert unknown(seen, replace(known, nodes=(), answers=False)) == ""


def test_a_network_map_that_is_none_is_an_error() -> None:
    for bad in ("[]", "no map", '{"PacketFilter": 7}'):
        with pytest.raises(FactProcessError, match=r"tailscale's network map is not understood: .*\. Next: "):
            NodeFilter().process([bad])


def test_ollama() -> None:
    answer = '{"models":[{"name":"smollm2:135m","context_length":8192}]}'
    lines = ["/var/lib/ollama/models/blobs/sha256-aa 12", "--- bb", answer]
    state = Ollama().process(lines)
    assert (state.blobs, state.manifest, state.loaded) == ({"sha256-aa": 12}, "bb", {"smollm2:135m": 8192})
    assert Ollama().process(["--- ", ""]).loaded == {}
    assert Ollama().process(["begun", "--- ", ""]).begun and not state.begun
    for bad in (["no mark"], ["--- ", "<html>"]):
        with pytest.raises(FactProcessError):
            Ollama().process(bad)


def test_model_stores() -> None:
    one, two = "sha256-" + "a" * 64, "sha256-" + "b" * 64
    lines = [
        "model smollm2/135m",
        f"12 /var/lib/ollama/models/blobs/{one}",
        f"34 /usr/share/ollama/.ollama/models/blobs/{two}",
        f"34 /home/anna/.ollama/models/blobs/{two}",
        f"34 /home/anna/.ollama/models/blobs/{two}-partial",
        "34 /home/anna/.ollama/models/blobs/sha256-; reboot",
        f"5 /var/lib/ollama/.private-ai-incoming/{one}.part",
        f"6 /var/lib/ollama/.private-ai-incoming/{two}",
    ]
    stores = ModelStores().process(lines)
    assert stores.installed == {"smollm2:135m"} and stores.own == {one: 12} and stores.begun == 11
    assert stores.elsewhere == {two: (f"/usr/share/ollama/.ollama/models/blobs/{two}", 34)}
    assert ModelStores().process([]) == ModelStores.default()


def test_a_blob_is_sound_when_its_content_is_what_its_name_says() -> None:
    good, bad = "a" * 64, "b" * 64
    shown = [f"{good}  /x/blobs/sha256-{good}", f"{good}  /x/blobs/sha256-{bad}", f"\\{bad}  /x\\n/sha256-{bad}"]
    assert SoundBlobs().process(shown) == {f"sha256-{good}"}


def test_certificate() -> None:
    assert CertificateState().process(["good"]).good
    assert not CertificateState().process(["other names"]).good
    with pytest.raises(FactProcessError):
        CertificateState().process([])
