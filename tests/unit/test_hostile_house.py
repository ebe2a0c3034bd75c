"""A house with the most unusual names that the settings accept: what arrives on the hosts, letter by letter."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from plan.house.access_table import ROLES
from plan.house.house import House
from plan.house.inventory import build_house
from plan.house.setting_values import DOMAIN_MOST, HOUSE_NAME_MOST
from plan.openclaw.configuration import OWN_SITES
from tests.unit import fakes, houses
from tests.unit.hostile import ALPHABET, WORDS, fewer, labels
from tests.verify.state import script

#: Placeholders for names. They are spelled so that they can be found in every file and command.
HOSTS = ("qqhub", "qqgate", "qqbrain", "qqlaptop", "qqphone")
PLAIN = {name: name for name in ("qqhouse", "qqdomain.qqtop", "qqanna", "qqben", "qqrow", *HOSTS)}
#: Words that have a meaning for a shell, nft or systemd, but that are also good names.
KNOWN = ("if", "then", "done", "do", "in", "case", "accept", "drop", "comment", "ip", "tcp", "dport", "exit", "eval")

names = labels | st.sampled_from(KNOWN)
people = names.filter(lambda name: name[0].isalpha() and len(name) > 1)
domains = st.tuples(st.lists(names, min_size=1, max_size=3), people).map(lambda parts: ".".join([*parts[0], parts[1]]))


@st.composite
def odd_names(draw: st.DrawFn, longest: int = DOMAIN_MOST) -> dict[str, str]:
    """Placeholder -> a name that the settings accept."""
    domain = draw(domains.filter(lambda text: len(text) <= longest and not text.endswith(".local")))
    hosts = draw(st.lists(names, min_size=len(HOSTS), max_size=len(HOSTS), unique=True))
    anna, ben = draw(st.lists(people, min_size=2, max_size=2, unique=True))
    row = draw(names.filter(lambda name: name not in [row["id"] for row in houses.SETTINGS["access_table"]] + ["own"]))
    house = draw(names)[:HOUSE_NAME_MOST].strip("-") or "x"
    given = {"qqhouse": house, "qqdomain.qqtop": domain, "qqanna": anna, "qqben": ben, "qqrow": row}
    return given | dict(zip(HOSTS, hosts, strict=True))


def house_of(name: Mapping[str, str], **more: Any) -> House:
    """A house on three servers with these names, an additional row, a row for a person, and a device."""
    rows = [
        {"id": name["qqrow"], "from": "lan", "to": "gateway", "port": "8080/tcp", "over": "lan", "why": "-"},
        {"id": "own", "from": f"{name['qqanna']}@", "to": "all", "port": "9100/tcp", "over": "vpn", "why": "-"},
    ]
    data = {
        "house_name": name["qqhouse"],
        "house_domain": name["qqdomain.qqtop"],
        "headscale_users": [name["qqanna"], name["qqben"]],
        "headscale_devices": [{"name": name["qqphone"], "owner": name["qqben"], "kind": "ios"}],
        "access_table": [
            *houses.SETTINGS["access_table"],
            *rows,
        ],
        **more,
    }
    roles = {"qqhub": "coordinator", "qqgate": "gateway", "qqbrain": "model_hosts", "qqlaptop": "clients"}
    return build_house(
        [
            houses.entry(name[token], role, **{**data, "lan_addresses": [f"10.0.0.{at}", f"fd00::{at}"]})
            for at, (token, role) in enumerate(roles.items(), 1)
        ],
        ROLES,
    )


@lru_cache(4)
def sent(house: House) -> list[tuple[str, str]]:
    """Every file and every command, each with its host."""
    found = []
    for host in fakes.deployed(house).values():
        found += [(f"{host.name}: {what}", text) for what, text in host.files.items()]
        found += [(f"{host.name}: command {number}", text) for number, text in enumerate(host.commands)]
        found.append((f"{host.name}: command of the verification", script(house, house.member(host.name))))
    return found


def files(house: House, ending: str) -> list[str]:
    found = [text for what, text in sent(house) if what.endswith(ending)]
    assert found
    return found


@fewer(2)
@given(odd_names(longest=40))
@example({**PLAIN, "qqhouse": "null", "qqrow": "accept"})
def test_names_arrive_as_they_are_and_change_nothing_else(name: dict[str, str]) -> None:
    # If a gateway's whole name is too long for a common name, another test checks it.
    if len(f"{name['qqgate']}.vpn.{name['qqdomain.qqtop']}") > 64:
        return
    pattern = re.compile("|".join(map(re.escape, PLAIN)))
    wanted = {
        pattern.sub(lambda found: name[found[0]], what): pattern.sub(lambda found: name[found[0]], text)
        for what, text in sent(house_of(PLAIN))
    }
    assert dict(sent(house_of(name))) == wanted


@fewer(2)
@given(odd_names())
def test_every_command_is_good_shell(name: dict[str, str]) -> None:
    commands = [text for what, text in sent(house_of(name)) if ": command " in what]
    done = subprocess.run(["dash", "-n"], input="\n".join(commands), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


class Strict(yaml.SafeLoader):
    """A YAML parser with the rules of Go's parser: a key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"twice: {keys}"
        return super().construct_mapping(node, deep)


@fewer(2)
@given(odd_names(), st.sampled_from(["0", "1h", "180d", "1y"]), st.lists(st.sampled_from(["10.0.0.9", "fd00::9"])))
@example({**PLAIN, "qqhouse": "1e3"}, "0", ["10.0.0.9"])
@example({**PLAIN, "qqhouse": "no"}, "0", ["fd00::9"])
def test_headscales_configuration_says_the_same_to_a_reader_of_yaml(
    name: dict[str, str], expiry: str, more: list[str]
) -> None:
    house = house_of(name, headscale_node_expiry=expiry)
    hub = house.coordinator
    members = [
        type(hub)(hub.name, hub.roles, (*hub.addresses, *more), hub.user) if each == hub else each
        for each in house.members
    ]
    (text,) = files(House(**{**house.__dict__, "members": tuple(members)}), "config.yaml")
    found = yaml.load(text, Strict)
    assert found["server_url"] == f"https://headscale.{name['qqdomain.qqtop']}:443"
    assert found["dns"]["base_domain"] == f"vpn.{name['qqdomain.qqtop']}"
    assert found["node"]["expiry"] == expiry
    server = found["derp"]["server"]
    assert [server[key] for key in ("region_code", "region_name")] == [name["qqhouse"]] * 2
    assert (server["ipv4"], server["ipv6"]) == ("10.0.0.1", "fd00::1")
    plain = yaml.load(files(house_of(PLAIN), "config.yaml")[0], Strict)
    assert _shape(found) == _shape(plain)


def _shape(value: object) -> object:
    """The structure of a document, without the contents of its strings."""
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return list(map(_shape, value))
    return str if isinstance(value, str) else value


@fewer(2)
@given(odd_names())
def test_the_policy_and_openclaws_configuration_are_json_with_nothing_more(name: dict[str, str]) -> None:
    for ending in ("policy.json", "openclaw.json"):
        (text,), (plain,) = files(house_of(name), ending), files(house_of(PLAIN), ending)
        text = re.sub("|".join(map(re.escape, PLAIN)), "", text)
        assert len(json.dumps(json.loads(text)).split(":")) == len(json.dumps(json.loads(plain)).split(":"))
    (text,) = files(house_of(name), "policy.json")
    policy = json.loads(text)
    assert policy["groups"] == {"group:clients": [f"{name['qqanna']}@", f"{name['qqben']}@"]}
    tags = {"tag:coordinator", f"tag:gateway-{name['qqgate']}", "tag:model-host"}
    sources = {source for grant in policy["grants"] for source in grant["src"]}
    assert set(policy["tagOwners"]) == tags and sources <= {*policy["groups"]["group:clients"], *tags}


def parsed_unit(text: str) -> list[tuple[str, str, str]]:
    """Section, key and value of every line of a unit. A line in another form is an error."""
    found, section = [], ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if head := re.fullmatch(r"\[([A-Z][A-Za-z]+)\]", line):
            section = head[1]
            continue
        key, equals, value = line.partition("=")
        assert equals and section and re.fullmatch(r"[A-Z][A-Za-z]+", key) and not value.endswith("\\"), line
        assert "%" not in value, f"systemd would read {value} as something else"
        found.append((section, key, value))
    return found


@fewer(2)
@given(odd_names())
def test_units_have_the_keys_they_always_have(name: dict[str, str]) -> None:
    endings = (".service", ".socket", ".container")
    odd, plain = (
        [
            [(section, key) for section, key, _ in parsed_unit(text)]
            for what, text in sent(house)
            if what.endswith(endings)
        ]
        for house in (house_of(name), house_of(PLAIN))
    )
    assert odd == plain and len(odd) > 10
    (text,) = files(house_of(name), ".container")
    names = [value for _, key, value in parsed_unit(text) if key == "AddHost"]
    assert names == [f"{name['qqbrain']}.local:100.64.0.3", *(f"{site}:127.0.0.1" for site in OWN_SITES)]


@fewer(2)
@given(odd_names())
def test_a_line_of_etc_hosts_is_an_address_and_the_control_servers_name(name: dict[str, str]) -> None:
    for text in files(house_of(name), "lines in /etc/hosts"):
        begin, *lines, end = text.splitlines()
        assert begin.startswith("#") and end.startswith("#")
        assert [line.split() for line in lines] == [
            [address, f"headscale.{name['qqdomain.qqtop']}"] for address in ("10.0.0.1", "fd00::1")
        ]


#: The forms that a line of the rules may have. A comment contains only the name of a row.
RULE = re.compile(
    r"#.*|table inet private_ai( \{)?|delete table inet private_ai|chain (input|forward|output) \{|\}"
    r"|type filter hook \w+ priority filter - 5; policy (accept|drop);"
    r'|[a-z0-9_ .:/,{}!="-]+ (accept|drop|reject with icmpx admin-prohibited)( comment "[a-z0-9][a-z0-9 -]*")?'
)


@fewer(2)
@given(odd_names())
def test_rules_are_as_many_as_ever_and_their_comments_are_names(name: dict[str, str]) -> None:
    odd, plain = (files(house, "firewall.nft") for house in (house_of(name), house_of(PLAIN)))
    assert [text.count("\n") for text in odd] == [text.count("\n") for text in plain]
    for text in odd:
        for line in text.splitlines():
            assert RULE.fullmatch(line.strip()), line
        assert all(line.count('"') % 2 == 0 for line in text.splitlines())


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed; the labs load these rules for real")
@fewer(8)
@given(odd_names())
def test_nft_itself_takes_the_rules(name: dict[str, str]) -> None:
    for text in files(house_of(name), "firewall.nft"):
        # The accounts exist only on the hosts. This test checks only the syntax.
        done = subprocess.run(
            ["nft", "--check", "--file", "-"],
            input=re.sub(r'skuid "[a-z_-]+"', "skuid 1", text),
            text=True,
            capture_output=True,
            check=False,
        )
        if "Operation not permitted" in done.stderr:
            pytest.skip("nft checks rules only as root")
        assert done.returncode == 0, done.stderr


def test_odd_names_are_really_odd() -> None:
    """The strategy really produces the words that programs are known to misunderstand."""
    assert {"yes", "null", "1e3", "0x10", "007", "2026-11-24", "true", "x" * 63} <= set(WORDS)
    assert set(ALPHABET) == set("abcdefghijklmnopqrstuvwxyz0123456789")
