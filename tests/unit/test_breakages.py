"""The function `judge` of the breakages, and that their data, their sample and their page agree."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.breakages import BREAKAGES
from tests.lab.breakages.breakage import (
    HOSTS,
    Breakage,
    Caught,
    Report,
    Seen,
    judge,
    matches,
    not_whole,
)
from tests.lab.breakages.shell import until

ROOT = Path(__file__).parents[2]
COMPONENTS = ("base", "firewall", "ca", "headscale", "tailscale", "ollama", "openclaw", "backup", "renewal", "health")
BROKEN = Breakage(
    id="firewall.lost",
    at="client",
    what="The rules are lost.",
    script="nft flush ruleset",
    must=(Caught("firewall.rules[HOST]", "no such table"),),
    may=("outside.tcp_ports[HOST-*]",),
)
GREEN: Report = {
    "firewall.rules[home]": Seen("pass", "so"),
    "firewall.rules[laptop]": Seen("pass", "so"),
    "outside.tcp_ports[laptop-IPv4]": Seen("pass", "open: []"),
    "egress.closed[home-root]": Seen("pass", "none"),
    "host.updates[home]": Seen("warn", "3 updates"),
}
CAUGHT: Report = {**GREEN, "firewall.rules[laptop]": Seen("fail", "no such table")}


def judged(after: Report, breakage: Breakage = BROKEN) -> list[str]:
    return judge([breakage], "single", GREEN, after)


def test_a_breakage_that_is_caught_for_the_right_reason_is_fine() -> None:
    assert judged(CAUGHT) == []
    assert judged({**CAUGHT, "outside.tcp_ports[laptop-IPv4]": Seen("fail", "open: [22]")}) == []


def test_a_breakage_that_nothing_notices_is_not() -> None:
    (complaint,) = judged(GREEN)
    assert "not caught: firewall.rules[HOST] did not fail" in complaint


def test_the_same_check_of_another_host_does_not_count() -> None:
    complaints = judged({**GREEN, "firewall.rules[home]": Seen("fail", "no such table")})
    assert [each.split(":")[0] for each in complaints] == ["not caught", "unrelated"]


def test_a_check_that_fails_for_another_reason_does_not_count() -> None:
    (complaint,) = judged({**GREEN, "firewall.rules[laptop]": Seen("fail", "the host does not answer")})
    assert "wrong reason" in complaint and "the host does not answer" in complaint


def test_one_of_several_demanded_checks_is_not_enough() -> None:
    both = replace(BROKEN, must=(*BROKEN.must, Caught("outside.tcp_ports[HOST-IPv4]")))
    (complaint,) = judged(CAUGHT, both)
    assert "outside.tcp_ports" in complaint


def test_a_demanded_check_that_does_not_exist_is_a_complaint() -> None:
    (complaint,) = judged(CAUGHT, replace(BROKEN, must=(*BROKEN.must, Caught("firewall.nonsense[HOST]"))))
    assert "there is no check firewall.nonsense[HOST]" in complaint


@pytest.mark.parametrize(
    "seen", [Seen("fail", "reached"), Seen("warn", "hm"), Seen("skip", "no client")], ids=["fail", "warn", "skip"]
)
def test_nothing_unrelated_may_become_worse(seen: Seen) -> None:
    (complaint,) = judged({**CAUGHT, "egress.closed[home-root]": seen})
    assert complaint.startswith("unrelated: egress.closed[home-root]")


def test_no_check_may_vanish() -> None:
    (complaint,) = judged({check: seen for check, seen in CAUGHT.items() if check != "egress.closed[home-root]"})
    assert complaint == "unrelated: egress.closed[home-root] is not in the report"
    assert len(judged({})) == 1 + len(GREEN)


def test_what_was_bad_before_catches_nothing_and_is_nobodys_fault() -> None:
    before: Report = {**GREEN, "firewall.rules[laptop]": Seen("fail", "no such table")}
    (complaint,) = judge([BROKEN], "single", before, before)
    assert complaint.startswith("not caught")


def test_a_warning_can_be_what_is_demanded() -> None:
    updates = replace(BROKEN, must=(Caught("host.updates[HOST]"),))
    before = {"host.updates[laptop]": Seen("pass", "none")}
    assert judge([updates], "single", before, {"host.updates[laptop]": Seen("warn", "1 update")}) == []


def test_patterns_name_hosts_by_their_roles() -> None:
    at = replace(BROKEN, at="model_host")
    assert matches("vpn.granted[CLIENT-GATEWAY]", "vpn.granted[laptop-home]", at, "single")
    assert matches("vpn.granted[GATEWAY-HOST]", "vpn.granted[gate-brain]", at, "split")
    assert matches("vpn.*[COORDINATOR-*]", "vpn.closed[hub-gate]", at, "split")
    assert not matches("egress.closed[HOST-ollama]", "egress.closed[brain-ollama-vpn]", at, "split")
    assert not matches("egress.closed[HOST-o.lama]", "egress.closed[brain-ollama]", at, "split")


def test_a_house_is_whole_when_no_check_fails() -> None:
    assert not_whole(GREEN) == []
    assert not_whole(CAUGHT) == ["firewall.rules[laptop] fail: no such table"]
    assert not_whole({})


def waited(condition: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = f"set -e\n{until(condition, seconds=1)}; echo broken"
    return subprocess.run(("bash", "-c", script), cwd=folder, capture_output=True, text=True, check=False)


def test_what_came_true_once_is_not_asked_again(tmp_path: Path) -> None:
    assert waited("mkdir asked 2>/dev/null", tmp_path).stdout == "broken\n"


def test_a_breakage_that_waits_in_vain_says_for_what(tmp_path: Path) -> None:
    found = waited("cat filter 2>/dev/null | grep -q widened", tmp_path)
    assert found.returncode == 1 and not found.stdout and "grep -q widened" in found.stderr


def test_every_breakage_says_what_it_needs() -> None:
    assert len(BREAKAGES) >= 40
    assert len({each.id for each in BREAKAGES}) == len(BREAKAGES)
    for each in BREAKAGES:
        assert each.id.partition(".")[0] in COMPONENTS and each.must and each.topologies
        assert each.what.endswith(".") and "|" not in each.what
        # The deployment repairs each breakage, or a person, or both.
        assert each.repaired_by or each.by_hand, each.id


def test_of_several_breakages_each_must_be_caught_and_only_what_one_of_them_explains_may_fail() -> None:
    open_way = replace(BROKEN, at="coordinator", must=(Caught("egress.closed[HOST-root]"),), may=())
    both = {**CAUGHT, "egress.closed[home-root]": Seen("fail", "reached")}
    assert judge([BROKEN, open_way], "single", GREEN, both) == []
    (complaint,) = judge([BROKEN, open_way], "single", GREEN, CAUGHT)
    assert complaint.startswith("not caught: egress.closed[HOST-root]")
    (complaint,) = judge([BROKEN, open_way], "single", GREEN, {**both, "host.updates[home]": Seen("skip", "")})
    assert complaint.startswith("unrelated: host.updates[home]")


def test_the_sample_covers_each_component_and_both_topologies() -> None:
    sample = [(each, each.sample) for each in BREAKAGES if each.sample]
    assert {each.id.partition(".")[0] for each, _ in sample} == set(COMPONENTS)
    assert {made.topology for _, made in sample} == set(HOSTS)
    assert all(made.topology in each.topologies for each, made in sample)


def test_no_breakage_of_a_round_causes_what_another_one_must_cause() -> None:
    sample = [(each, each.sample) for each in BREAKAGES if each.sample]
    pairs = [
        (one, other, at.topology) for one, at in sample for other, beside in sample if at == beside and one != other
    ]
    assert len(pairs) >= 12
    for one, other, topology in pairs:
        hosts = HOSTS[topology]
        names = {"HOST": one.host(topology), "COORDINATOR": hosts["coordinator"], "GATEWAY": hosts["gateway"]}
        names |= {"MODEL": hosts["model_host"], "CLIENT": hosts["client"]}
        for caught in one.must:
            check = "".join(names.get(word, word) for word in re.split(r"\b", caught.check))
            assert not [each for each in other.expected if matches(each, check, other, topology)], (one.id, other.id)
