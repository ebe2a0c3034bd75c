"""A run refuses a wrong input before it has changed anything on any host. The hosts of these tests are bare."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab.conftest import TestLab

LAB = "from lab.hosts import lab_host as _host\n"
GOOD = {
    "coordinator": '[_host("home")]',
    "gateway": '[_host("home")]',
    "model_hosts": '[_host("home")]',
    "clients": '[_host("laptop")]',
}
# An address of the lab's network that no host has.
NOWHERE = '_host("stranger")[1]["ssh_hostname"].replace(".66", ".99")'
GHOST = f'{{**_host("laptop")[1], "ssh_hostname": {NOWHERE}, "lan_addresses": [{NOWHERE}]}}'
UNREACHABLE = f'[_host("laptop"), ("ghost", {GHOST})]'


def write_inventory(folder: Path, **groups: str) -> str:
    """Write an inventory file with the groups of GOOD, and return its path. `groups` replaces some; "" leaves a group
    out."""
    lines = [f"{name} = {text}" for name, text in {**GOOD, **groups}.items() if text]
    # pyinfra reads group_data beside the inventory and in the current folder, so the project's settings hold here.
    file = folder / "inventory.py"
    file.write_text(LAB + "\n".join(lines) + "\n")
    return str(file)


def bad_data(setting: str, value: str) -> dict[str, str]:
    """Groups in which `home` has one more setting. It has it in each group, because pyinfra uses the data of the last
    one."""
    home = f'[("home", {{**_host("home")[1], "{setting}": {value}}})]'
    return dict.fromkeys(("coordinator", "gateway", "model_hosts"), home)


def refused(lab: TestLab, said: tuple[str, ...], *arguments: str, inventory: str = "") -> None:
    """Check that the run fails, prints all of `said`, and has left nothing on any host."""
    done = lab.pyinfra(*arguments, inventory=inventory)
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0, output
    for words in said:
        assert words in output, f"{words!r} is not in: {output}"
    assert "Traceback" not in output, output
    for host in lab.hosts:
        assert lab.ssh(host, "ls -d /var/lib/private-ai /opt/private-ai /etc/private-ai 2>/dev/null", check=False) == ""
        assert lab.ssh(host, "grep private-ai /etc/hosts", check=False) == ""


INVENTORY_CASES = {
    "unknown group": ({"gatway": '[_host("home")]'}, ("'gatway'", "did you mean 'gateway'", "clients")),
    "role missing": ({"gateway": ""}, ("inventory: gateway", "at least one host")),
    "two coordinators": ({"coordinator": '[_host("home"), _host("laptop")]'}, ("home", "laptop", "exactly one host")),
    "host in no role": ({"others": '[_host("stranger")]'}, ("'others'", "one of coordinator")),
    "host unreachable": ({"clients": UNREACHABLE}, ("ghost", "Could not connect")),
    "one setting, two values": (
        bad_data("house_name", '"other"'),
        ("house_name", "'other'", "one value for the whole"),
    ),
    "server and client": ({"clients": '[_host("home"), _host("laptop")]'}, ("home", "either a client or a server")),
    "bad address": (bad_data("lan_addresses", '["nowhere"]'), ("lan_addresses", "'nowhere'", "IPv4")),
    "unknown setting": (
        bad_data("olama_model", '"x"'),
        ("olama_model", "did you mean 'ollama_model'"),
    ),
}


@pytest.mark.parametrize("case", INVENTORY_CASES)
def test_a_wrong_inventory_is_refused(single: TestLab, tmp_path: Path, case: str) -> None:
    groups, said = INVENTORY_CASES[case]
    refused(single, said, inventory=write_inventory(tmp_path, **groups))


DATA_CASES = {
    "model that cannot fit": ("ollama_model=qwen3.5:122b", ("ollama_model", "qwen3.5:122b", "GiB")),
    "unknown model": ("ollama_model=qwen3.5:9", ("ollama_model", "qwen3.5:9b")),
    "context too small": ("ollama_context=1000", ("ollama_context", "1000", "8192")),
    "bad domain": ("house_domain=house", ("house_domain", "'house'", "house.internal")),
    "multicast domain": ("house_domain=house.local", ("house_domain", "multicast DNS")),
    "no access table": ("access_table=[]", ("access_table", "restore")),
    "unknown role in a row": (
        'access_table=[{"id":"x","from":"guests","to":"all","port":"1/tcp","over":"lan","why":"-"}]',
        ("access_table row 'x' from", "'guests'", "coordinator"),
    ),
    "bad port in a row": (
        'access_table=[{"id":"x","from":"lan","to":"all","port":"tcp:443","over":"lan","why":"-"}]',
        ("access_table row 'x' port", "'tcp:443'", "NUMBER/tcp"),
    ),
    "bad expiry": ("headscale_node_expiry=often", ("headscale_node_expiry", "'often'", "180d")),
    "bad source": ("artifacts_source=magic", ("artifacts_source", "'magic'", "release")),
    "bad network": ('admin_networks=["10.0.0.0/99"]', ("admin_networks", "10.0.0.0/99", "CIDR")),
}


@pytest.mark.parametrize("case", DATA_CASES)
def test_a_wrong_setting_is_refused(single: TestLab, case: str) -> None:
    data, said = DATA_CASES[case]
    refused(single, said, "--data", data)


def test_a_limit_that_matches_nothing_is_an_error(single: TestLab) -> None:
    refused(single, ("--limit", "'nobody'", "home, laptop", "clients"), "--limit", "nobody")


def test_a_limit_that_matches_in_part_is_an_error(single: TestLab) -> None:
    refused(single, ("--limit", "'nobody'"), "--limit", "nobody", "--limit", "home")


def test_the_wrong_system_is_refused(single: TestLab) -> None:
    single.ssh("laptop", "cp -L /etc/os-release /root/os; sed 's/^VERSION_ID=.*/VERSION_ID=\"11\"/' /root/os > /etc/os")
    single.ssh("laptop", "mount --bind /etc/os /usr/lib/os-release")
    try:
        refused(single, ("host laptop: os", "Debian 13"))
    finally:
        single.ssh("laptop", "umount /usr/lib/os-release; rm -f /etc/os /root/os")


def test_a_port_taken_by_another_program_is_refused(single: TestLab) -> None:
    listen = "import socket,time;s=socket.create_server(('0.0.0.0',443));time.sleep(600)"
    single.ssh("home", f'systemd-run --quiet --unit=squatter python3 -c "{listen}"; sleep 0.5')
    try:
        refused(single, ("443", "python3", "squatter"))
    finally:
        single.ssh("home", "systemctl stop squatter")


def look(lab: TestLab, *arguments: str) -> subprocess.CompletedProcess[str]:
    return lab.run(".venv/bin/pyinfra", lab.inventory, "playbooks/diff.py", *arguments)


def test_a_look_at_bare_hosts_finds_that_all_is_missing_and_what_is_not_known_yet(single: TestLab) -> None:
    done = look(single)
    assert done.returncode == 1, done.stderr[-3000:]
    for line in (
        "laptop: no deployment has been completed here",
        "    package nftables would be installed (it is missing)",
        "    unit ollama.service would be started (it is missing)",
        "    not known before the run: the CA is made on the coordinator first",
        "    secret /etc/openclaw/token would be made (it is missing)",
    ):
        assert line in done.stdout.splitlines()
    wrong = look(single, "--data", "house_domain=house")
    assert wrong.returncode == 2 and "house_domain" in wrong.stderr and wrong.stdout == ""
    for host in single.hosts:
        assert single.ssh(host, "ls -d /var/lib/private-ai /opt/private-ai 2>/dev/null", check=False) == ""


def test_a_dry_run_from_nothing_changes_nothing(single: TestLab) -> None:
    pyinfra = [command for command in (single.run("which", "pyinfra").stdout.strip(),) if command]
    done = single.run(*(pyinfra or [".venv/bin/pyinfra"]), single.inventory, "deploy.py", "--dry")
    assert done.returncode == 0, done.stderr
    assert "smollm2:135m" in done.stderr or "qwen" in done.stderr, "the dry run does not say which model"
    for host in single.hosts:
        assert single.ssh(host, "ls -d /var/lib/private-ai 2>/dev/null", check=False) == ""
