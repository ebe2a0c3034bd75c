"""The gateway's configuration names the chosen model, has the same context everywhere, and allows nothing outgoing."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from operations.engine import answers
from operations.openclaw.image import Image, ImagePresent, ImageSeen, loaded, sent
from plan.engine.upload_folder import IMAGE_INCOMING
from plan.ollama.model_choice import choose
from plan.ollama.model_fit import Hardware
from plan.openclaw.configuration import OWN_SITES, ModelServer, ollama_host, openclaw_config
from plan.openclaw.model_entry import gateway_limits
from tasks.engine.texts import render
from tests.unit import houses
from tests.unit.fakes import Fake, context

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


def test_the_names_of_openclaws_own_sites_lead_nowhere_in_the_container() -> None:
    values = {"image": "i", "user_namespace": "u", "port": 1, "forward": "none", "hosts": [], "pids": 1, "memory": ""}
    network = {
        "address": "a",
        "prefix": 1,
        "router": "r",
        "foreign": (),
        "podman": "A=b",
        "cannot_open": 78,
        "archives": ("a", "b"),
    }
    made = render("openclaw/openclaw.container.j2", **values, **network, start_seconds=1, own_sites=OWN_SITES)
    assert re.findall(r"^AddHost=(.*)$", made, re.MULTILINE) == ["clawhub.ai:127.0.0.1"]


#: Ollama's answers about the models in memory, if the deployment has loaded the model, and if a message of OpenClaw
#: has.
BY_DEPLOYMENT, BY_MESSAGE = (
    f'{{"models":[{{"name":"other:1b","expires_at":"2318-01-01T00:00:00Z"}},{{"name":"m:7b","expires_at":"{year}"}}]}}'
    for year in ("2036-11-24T07:00:00Z", "2319-03-09T05:47:49Z")
)


@pytest.mark.parametrize(
    ("before", "loaded", "ends", "sent", "after"),
    [
        # The gateway was restarted since the last message, or no message was ever sent.
        ("another", BY_MESSAGE, 0, True, "this"),
        ("", '{"models":[]}', 0, True, "this"),
        # Nothing has happened since the last message.
        ("this", BY_MESSAGE, 0, False, "this"),
        # Since the last message, the deployment has loaded the model again, or it is not in memory.
        ("this", BY_DEPLOYMENT, 0, True, "this"),
        ("this", '{"models":[]}', 0, True, "this"),
        # Ollama does not answer.
        ("this", "", 0, False, "this"),
        ("another", "", 1, True, "another"),
        # The answer was empty, or the model could not be asked.
        ("another", BY_MESSAGE, 75, True, "this"),
        ("another", BY_DEPLOYMENT, 75, True, "another"),
        ("another", "", 75, True, "another"),
        # The gateway was not ready in time.
        ("another", BY_MESSAGE, 1, True, "another"),
    ],
)
def test_when_the_first_message_is_sent(
    tmp_path: Path, before: str, loaded: str, ends: int, sent: bool, after: str
) -> None:
    script = render(
        "openclaw/openclaw-warm.j2",
        host="127.0.0.1",
        address="127.0.0.1:11434",
        model="m:7b",
        ready_seconds=1,
        answer_seconds=1,
        session_seconds=1,
    )
    mark, calls = tmp_path / "openclaw-warm", tmp_path / "calls"
    for name, body in {
        "systemctl": 'case "$*" in *InvocationID*) echo this ;; esac',
        "curl": f"test -n '{loaded}' && echo '{loaded}'",
        "podman": f"echo sent >>{calls}; exit {ends}",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    if before:
        mark.write_text(f"{before}\n")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(tmp_path)}
    subprocess.run(["sh", "-c", script], env=env, check=False)
    assert calls.exists() is sent
    assert mark.read_text() == f"{after}\n"
    # If the gateway does not run, no message is sent.
    (tmp_path / "systemctl").write_text('#!/bin/sh\ncase "$*" in *InvocationID*) echo ;; *is-active*) exit 3 ;; esac\n')
    calls.unlink(missing_ok=True)
    subprocess.run(["sh", "-c", script], env=env, check=False)
    assert not calls.exists()


IMAGE = Image("localhost/openclaw:1-abc", "localhost/openclaw:1", Path("/cache/image.tar"), "a" * 64, "openclaw")


def _carried_out(operation: Any, there: bool, executing: bool = True, begun: bool = False) -> list[str]:
    """The commands of an operation on a host that has the image (`there`) or not, without the command of the fact."""
    home = Fake("home", {ImagePresent: ImageSeen(there, begun)})
    answers.forget()
    with context(home, {"home": home}, executing):
        home.do(operation, image=IMAGE)
    return [command for command in home.commands if "while test -e" not in command]


def test_an_image_is_loaded_while_the_run_goes_on_and_aloud_when_that_failed() -> None:
    *_, begun = _carried_out(sent, there=False)
    *_, again = _carried_out(loaded, there=False)
    assert "--wait" not in begun.split(" sh -c ")[0]
    # The same command, but now the run waits for it and shows its errors.
    assert again.split(" sh -c ")[0].endswith("--pipe --wait")
    assert again.split(" sh -c ")[1] == begun.split(" sh -c ")[1]
    for operation in (sent, loaded):
        assert not _carried_out(operation, there=True)
    # While planning, one of the two operations says that there is something to do.
    assert _carried_out(sent, there=False, executing=False)
    assert not _carried_out(loaded, there=False, executing=False)


def test_what_an_interrupted_run_left_of_another_image_goes_away() -> None:
    assert _carried_out(sent, there=True, begun=True) == [f"rm -rf {IMAGE_INCOMING}"]


def test_an_image_that_is_being_loaded_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, record = tmp_path / "unit", tmp_path / "record"
    monkeypatch.setattr("operations.openclaw.image.AT_WORK", str(at_work))
    monkeypatch.setattr("operations.openclaw.image.IMAGE_RECORD", str(record))
    monkeypatch.setattr("operations.openclaw.image.image_id", lambda image, account: "echo 0123abcd")
    command = ImagePresent().command(image=IMAGE.name, account="openclaw")

    def answer() -> bool:
        said = subprocess.run(["sh", "-c", command], capture_output=True, text=True).stdout
        return ImagePresent().process(said.split()).present

    assert not answer()
    at_work.touch()
    asking = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        asking.wait(0.5)
    record.write_text("0123abcd\n")
    at_work.unlink()
    assert asking.communicate(timeout=10)[0] == "yes\n"
    assert answer()
