"""The parts of the verification that need no host: inventory, SSH configuration, STUN, and the output of hosts."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from plan.engine.errors import SettingError
from tests.unit.houses import SETTINGS
from tests.verify.inventory import place, ssh_config, subject
from tests.verify.printed import Account, accounts, fragments, routers, rules, status_fields
from tests.verify.probes.network import COOKIE, outcome_of, stun_mapped, stun_request
from tests.verify.probes.secrets import values
from tests.verify.state import Section, curl_config, parse_sections, sections_script

TRANSACTION = bytes(range(12))


def found(name: str, *groups: str, **data: Any) -> dict[str, Any]:
    return {"name": name, "groups": [*groups, "mine"], "data": {**SETTINGS, "ssh_hostname": "192.0.2.7", **data}}


HOSTS = [
    found("hub", "coordinator", "gateway", "model_hosts"),
    found("laptop", "clients", ssh_hostname="192.0.2.20"),
]


def test_a_subject_leaves_out_pyinfra_s_own_groups() -> None:
    made = subject("dir/mine.py", HOSTS, [])
    assert {member.name: set(member.roles) for member in made.house.members} == {
        "hub": {"coordinator", "gateway", "model_hosts"},
        "laptop": {"clients"},
    }
    assert made.scope == {"hub", "laptop"}
    assert made.lab is None and made.outside_name == "controller" and made.internet == ()


def test_only_narrows_what_is_probed_but_the_gateway_is_asked() -> None:
    made = subject("mine.py", HOSTS, ["laptop"])
    assert made.scope == {"laptop"}
    assert [member.name for member in made.asked] == ["hub", "laptop"]


def test_outside_may_be_named_but_not_of_the_house() -> None:
    made = subject("mine.py", HOSTS, [], "neighbour")
    assert made.outside is not None and made.outside_name == "neighbour"
    with pytest.raises(SettingError, match="--outside"):
        subject("mine.py", HOSTS, [], "laptop")


def test_only_with_an_unknown_host_is_an_error() -> None:
    with pytest.raises(SettingError, match="--only"):
        subject("mine.py", HOSTS, ["latpop"])


def test_no_host_is_an_error() -> None:
    with pytest.raises(SettingError, match="coordinator"):
        subject("mine.py", [], [])


def test_ssh_configuration_checks_host_keys_and_shares_one_connection() -> None:
    at = place("hub", {"ssh_hostname": "192.0.2.7", "ssh_user": "admin", "ssh_port": 2222, "ssh_key": "/k y"})
    text = ssh_config([at], Path("/tmp/x"))
    assert text.splitlines() == [
        "Host 192.0.2.7",
        "  Port 2222",
        "  User admin",
        '  IdentityFile "/k y"',
        "  IdentitiesOnly yes",
        "  StrictHostKeyChecking yes",
        "  BatchMode yes",
        "  ConnectTimeout 10",
        "  ServerAliveInterval 10",
        "  ControlMaster auto",
        "  ControlPath /tmp/x/%C",
        "  ControlPersist 60",
        '  Include "~/.ssh/config"',
        "Host * !192.0.2.7",
        "  BatchMode yes",
        "  ConnectTimeout 10",
        '  Include "~/.ssh/config"',
    ]


def test_a_jump_host_s_alias_is_known_and_the_files_of_two_hosts_are_not_mixed(
    tmp_path: Path,
) -> None:
    """ssh starts the jump with the same configuration, in which it looks up the alias."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(
            f"Host jump-{name}\n  HostName 192.0.2.99\n  Port 2200\n"
            f"Host *\n  HostKeyAlias of-{name}\nHost * !jump-{name}\n  ProxyJump jump-{name}\n"
        )
    places = [
        place(name, {"ssh_hostname": f"192.0.2.{number}", "ssh_config_file": str(tmp_path / name)})
        for number, name in enumerate(("a", "b"), 1)
    ]
    file = tmp_path / "config"
    file.write_text(ssh_config(places, tmp_path))

    def told(host: str) -> list[str]:
        done = subprocess.run(["ssh", "-G", "-F", str(file), host], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    for number, name in enumerate(("a", "b"), 1):
        assert {"hostname 192.0.2.99", "port 2200", "batchmode yes"} <= set(told(f"jump-{name}"))
        assert {f"proxyjump jump-{name}", f"hostkeyalias of-{name}"} <= set(told(f"192.0.2.{number}"))


def test_a_host_without_an_address_goes_by_its_name() -> None:
    assert place("hub", {}).address == "hub"
    assert place("hub", {"_sudo": True}).prefix == "sudo -n "


def test_stun_request_is_one_that_tailscale_s_server_answers() -> None:
    request = stun_request(TRANSACTION)
    kind, length, cookie = struct.unpack_from("!HHI", request)
    assert (kind, length, cookie, request[8:20]) == (1, len(request) - 20, COOKIE, TRANSACTION)
    assert b"tailnode" in request
    # RFC 8489, section 14.7: CRC-32 of everything before it, XORed with "STUN".
    assert request[-4:] == struct.pack("!I", zlib.crc32(request[:-8]) ^ 0x5354554E)


def stun_answer(address: bytes, transaction: bytes = TRANSACTION) -> bytes:
    mask = struct.pack("!I", COOKIE) + transaction
    value = struct.pack("!BBH", 0, 1 if len(address) == 4 else 2, 0) + bytes(
        a ^ b for a, b in zip(address, mask, strict=False)
    )
    # Before it there is an attribute of odd length, padded to four bytes.
    attributes = struct.pack("!HH", 0x8022, 5) + b"short\0\0\0" + struct.pack("!HH", 0x0020, len(value)) + value
    return struct.pack("!HHI", 0x0101, len(attributes), COOKIE) + transaction + attributes


def test_stun_answers_name_our_address() -> None:
    assert stun_mapped(stun_answer(bytes([192, 0, 2, 66])), TRANSACTION) == "192.0.2.66"
    assert stun_mapped(stun_answer(bytes(10) + b"\xff\xff\xc0\x00\x02\x42"), TRANSACTION) == "192.0.2.66"
    assert stun_mapped(stun_answer(b"\xfd" + bytes(14) + b"\x66"), TRANSACTION) == "fd00::66"


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad Request\r\n", stun_answer(bytes(4), bytes(12)), stun_answer(bytes(4))[:-1]],
    ids=["empty", "other protocol", "other transaction", "cut short"],
)
def test_what_is_no_stun_answer_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError):
        stun_mapped(answer, TRANSACTION)


def test_outcomes_tell_an_answering_host_from_a_firewall() -> None:
    assert [outcome_of(number) for number in (0, 111, 113, 13, 110, 101)] == [
        "open",
        "reset",
        "prohibited",
        "prohibited",
        "silent",
        "enetunreach",
    ]


def test_sections_keep_status_and_output_apart() -> None:
    found = parse_sections('{"a":\n1}\n--8<-- first 0\n\n--8<-- certificate_gateway 3\ncut')
    assert found["first"].json() == {"a": 1}
    assert found["certificate gateway"] == Section(3, "")
    assert list(found) == ["first", "certificate gateway"]


def test_rules_are_compared_without_handles_and_counts() -> None:
    def table(handle: int, packets: int, *more: object) -> object:
        match = {"match": {"left": {"meta": {"key": "iifname"}}, "op": "==", "right": "lo"}}
        counted = {"counter": {"packets": packets, "bytes": packets}}
        rule = {"family": "inet", "table": "private_ai", "chain": "input", "handle": handle, "expr": [match, counted]}
        return {"nftables": [{"metainfo": {"version": "1.1.3"}}, {"rule": {**rule, "more": more}}]}

    assert rules(table(4, 0)) == rules(table(9, 77)) != rules(table(4, 0, "another"))
    assert rules(None) == []


def test_fragments_of_units() -> None:
    text = "Id=ssh.service\nFragmentPath=/usr/lib/systemd/system/ssh.service\n\nId=run-u1.service\nFragmentPath=\n"
    assert fragments(text) == {"ssh.service": "/usr/lib/systemd/system/ssh.service", "run-u1.service": ""}


def test_routers() -> None:
    text = "default via 10.77.0.254 dev host0\ndefault via fe80::1 dev host0\ndefault dev ppp0\n"
    assert routers(text) == ("10.77.0.254",)


def test_status_fields() -> None:
    text = "Name:\tnode\nUid:\t992\t992\t992\t992\nCapEff:\t0000000000000000\n31 29 0:28 / / ro,relatime\n"
    assert status_fields(text) == {"Name": "node", "Uid": "992 992 992 992", "CapEff": "0" * 16}


def test_the_model_server_s_log_gives_tokens_of_whole_prompts() -> None:
    log = """\
slot   operator(): id  0 | task 74 | new prompt, n_ctx_slot = 8192, n_keep = 4, task.n_tokens = 2285
slot   operator(): id  0 | task 74 | cached n_tokens = 2063, memory_seq_rm [2063, end)
slot print_timing: id  0 | task 74 | prompt eval time =    1918.11 ms /   222 tokens (    8.64 ms per token)
slot print_timing: id  0 | task 74 |        eval time =     251.87 ms /     8 tokens (   35.98 ms per token)
slot   operator(): id  0 | task 83 | new prompt, n_ctx_slot = 8192, n_keep = 4, task.n_tokens = 99
"""
    assert accounts(log) == [Account(2285, 8)]


def test_curl_s_configuration_keeps_any_text_in_its_quotes() -> None:
    assert curl_config([("data", '{"a": "\\n"}'), ("write-out", "\n%{http_code}")]) == (
        'data = "{\\"a\\": \\"\\\\n\\"}"\nwrite-out = "\\n%{http_code}"\n'
    )


def test_a_key_that_is_none_is_no_secret(tmp_path: Path) -> None:
    key, none = "5f" * 32, "0" * 64
    profile = json.dumps({"PrivateNodeKey": f"privkey:{key}", "OldPrivateNodeKey": f"privkey:{none}"})
    state = tmp_path / "tailscaled.state"
    state.write_text(json.dumps({"profile-1": base64.b64encode(profile.encode()).decode()}))
    assert values(str(state)) == [key.encode()]


def test_a_question_that_hangs_is_ended_and_the_others_are_answered() -> None:
    parts = {"who": "echo 'it''s'", "never ends": "echo begun; sleep 30", "last": "echo there"}
    begun = time.monotonic()
    done = subprocess.run(["sh", "-c", sections_script(parts, 1)], capture_output=True, text=True, check=True)
    assert time.monotonic() - begun < 10
    found = parse_sections(done.stdout)
    assert (found["who"].text, found["last"].text) == ("its", "there")
    assert (found["never ends"].text, found["never ends"].status) == ("begun", 124)
