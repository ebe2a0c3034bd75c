"""What a house needs to run for years: lines of units and configurations, whose reasons stand beside them."""

from __future__ import annotations

import configparser

from tasks import openclaw
from tests.unit import houses
from tests.unit.test_hostile_house import files


def unit(text: str, section: str) -> dict[str, str]:
    """The last value of each key in a section of a unit."""
    read = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(text)
    return dict(read[section])


def test_headscale_is_ended_when_it_does_not_end_by_itself() -> None:
    (text,) = files(houses.single(), "headscale.service")
    assert unit(text, "Service")["TimeoutStopSec"] == "10"


def test_an_address_of_a_removed_node_is_not_given_to_the_next_one() -> None:
    (text,) = files(houses.single(), "headscale/config.yaml")
    (prefixes,) = [line for line in text.splitlines() if line.startswith("prefixes:")]
    assert prefixes.endswith("allocation: random}")


def test_an_openclaw_that_cannot_open_its_state_is_not_started_for_ever() -> None:
    (text,) = files(houses.single(), "openclaw.container")
    service = unit(text, "Service")
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(openclaw.CANNOT_OPEN[0]) == "78"
