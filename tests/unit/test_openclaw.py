"""The gateway's configuration says the chosen model, one context everywhere, and everything outgoing off."""

from __future__ import annotations

from typing import Any

from plan.models import Hardware, choose, gateway_limits
from plan.openclaw import ModelServer, ollama_host, openclaw_config
from tests.unit import houses

SMALL = choose(Hardware(ram_gib=4, disk_free_gib=20), wanted_context=None, named=None, registry_reachable=False)
LARGE = choose(Hardware(ram_gib=16, disk_free_gib=99), wanted_context=None, named=None, registry_reachable=True)
SPLIT = houses.split()
ORIGIN = "https://gate.vpn.house.internal:18789"


def config(*servers: ModelServer) -> dict[str, Any]:
    return openclaw_config(
        SPLIT, SPLIT.member("gate"), servers or (ModelServer("ollama", "http://127.0.0.1:11434", SMALL),)
    )


def test_a_model_host_elsewhere_has_a_name_that_openclaw_and_ollama_both_take_for_local() -> None:
    assert ollama_host(SPLIT.member("gate"), SPLIT.member("brain")) == "brain.local"
    home = houses.single().member("home")
    assert ollama_host(home, home) == "127.0.0.1"


def test_one_context_number_everywhere() -> None:
    for choice in (SMALL, LARGE):
        entry = config(ModelServer("ollama", "http://x", choice))["models"]["providers"]["ollama"]["models"][0]
        assert {entry["contextWindow"], entry["contextTokens"], entry["params"]["num_ctx"]} == {choice.context}


def test_an_answer_is_bounded_where_ollama_reads_it() -> None:
    entry = config()["models"]["providers"]["ollama"]["models"][0]
    assert entry["params"]["num_predict"] == entry["maxTokens"] == gateway_limits(SMALL).max_tokens < SMALL.context


def test_a_small_models_prompt_is_kept_short() -> None:
    assert config()["agents"]["defaults"]["contextInjection"] == "never"
    large = config(ModelServer("ollama", "http://x", LARGE))
    assert "contextInjection" not in large["agents"]["defaults"]


def test_more_model_hosts_are_fallbacks_in_order() -> None:
    made = config(ModelServer("ollama", "http://a", LARGE), ModelServer("ollama-b", "http://b", SMALL))
    assert made["agents"]["defaults"]["model"] == {
        "primary": f"ollama/{LARGE.entry.name}",
        "fallbacks": [f"ollama-b/{SMALL.entry.name}"],
    }
    assert {name: provider["baseUrl"] for name, provider in made["models"]["providers"].items()} == {
        "ollama": "http://a",
        "ollama-b": "http://b",
    }


def test_nothing_phones_home_and_nothing_runs_commands() -> None:
    made = config()
    for path in (
        "telemetry.enabled",
        "update.checkOnStart",
        "update.auto.enabled",
        "models.catalogRefresh.enabled",
        "browser.enabled",
        "cron.enabled",
        "hooks.enabled",
        "acp.enabled",
        "desktop.host.enabled",
        "memory.search.enabled",
        "tools.web.search.enabled",
        "tools.web.fetch.enabled",
        "tools.elevated.enabled",
        "tools.links.enabled",
        "gateway.terminal.enabled",
        "gateway.cliAgents.enabled",
        "gateway.controlUi.automaticallyFetchFavicons",
        "gateway.nodes.pairing.autoApproveLocal",
        "gateway.nodes.pairing.sshVerify",
        "commands.bash",
        "commands.plugins",
    ):
        value: Any = made
        for key in path.split("."):
            value = value[key]
        assert value is False, path
    assert made["tools"]["exec"]["mode"] == "deny"
    assert made["discovery"]["mdns"]["mode"] == "off"
    assert made["plugins"]["allow"] == ["ollama"] and "ollama" not in made["plugins"]["deny"]
    assert made["gateway"]["auth"]["token"]["source"] == "file", "the token must not stand in the configuration"
    assert made["gateway"]["tls"]["enabled"] is True
