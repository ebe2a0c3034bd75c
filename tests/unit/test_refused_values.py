"""Values that are always refused, each with a simple case. Whether generated cases also produce these errors is
chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.cache import lock
from artifacts.errors import ArtifactError
from plan.engine.errors import SettingError
from plan.firewall.package_sources import apt_of
from plan.house.inventory import build_house
from plan.house.setting_values import lan_addresses, users, words
from plan.ollama.model_choice import choose
from plan.ollama.model_fit import Hardware
from tests.unit import houses


def two_values() -> Any:
    entries = [
        houses.entry("home", "coordinator", "gateway", "model_hosts", house_name="one"),
        houses.entry("laptop", "clients", house_name="two"),
    ]
    return build_house(entries, ("coordinator", "gateway", "model_hosts", "clients"))


def model(name: Any) -> Any:
    return choose(Hardware(ram_gib=16, disk_free_gib=99), wanted_context=None, named=name, registry_reachable=True)


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (two_values, "one value for the whole house. Next: set it in group_data/all.py and nowhere else"),
        (lambda: model(7), "is 7; accepted: a name of plan/ollama/catalogue.py, or"),
        (lambda: words("why", "two\nlines"), "accepted: a few words on one line, 200 characters at most"),
        (lambda: users(["anna", "anna"]), "headscale_users is 'anna'; accepted: every name once"),
        (lambda: lan_addresses("host home", "192.168.1.10"), "lan_addresses is '192.168.1.10'; accepted: a list of"),
        (lambda: apt_of("home", ["http://[fd00::1"]), "host home: apt's proxy is 'http://[fd00::1'"),
    ],
)
def test_a_value_that_nobody_takes(read: Callable[[], Any], said: str) -> None:
    with pytest.raises(SettingError) as caught:
        read()
    assert said in str(caught.value)


def test_a_cache_that_a_build_cannot_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a;b"))
    with pytest.raises(ArtifactError, match=r"makes the cache .* with ';' in it"), lock(lambda said: None):
        pass
