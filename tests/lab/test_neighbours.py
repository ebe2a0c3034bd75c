"""A whole house on hosts with other programs: nginx, ufw, Docker with a published port, and the models of an older
Ollama.

`make beside` runs it. `make test` does not, because it needs a deployment of its own.
"""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from artifacts.store import Model, find_model
from lab.topology import Lab
from tests.lab import neighbours
from tests.lab.conftest import REPO, STAMP, TestLab
from tests.lab.inventories import GROUPS, write_inventory
from tests.lab.objects import Objects, brought, counted, differences, recorded
from tests.lab.test_bare import refused

NGINX = "printf 'server {{ listen {0}; listen [::]:{0}; return 200 nginx; }}\\n' > /etc/nginx/sites-enabled/default; "
#: Commands that make a container with a single program, because no image can be downloaded here.
CONTAINER = (
    "mkdir -p /root/box/bin /root/box/www; cp /bin/busybox /root/box/bin/; echo container > /root/box/www/index.html; "
    "tar -C /root/box -c . | docker import - box >/dev/null; docker run --detach --restart always --name web "
    "--publish 8080:80 box /bin/busybox httpd -f -p 80 -h /www >/dev/null"
)
STORE = "/usr/share/ollama/.ollama/models/blobs"
UFW = "ufw allow 22/tcp >/dev/null && ufw --force enable >/dev/null"
#: Rows of the access table for the other programs.
ROWS = [
    {"id": "site", "from": "lan", "to": "coordinator", "port": "443/tcp", "over": "lan", "why": "nginx of the family"},
    {"id": "box", "from": "lan", "to": "gateway", "port": "8080/tcp", "over": "lan", "why": "a container"},
    {"id": "page", "from": "lan", "to": "clients", "port": "80/tcp", "over": "lan", "why": "nginx on the laptop"},
]


@dataclass(frozen=True)
class Street:
    """A lab with other programs: the inventory with rows for them, host -> their tables before the house was deployed,
    and all that they had; the log of the deployment."""

    lab: TestLab
    inventory: str
    before: dict[str, str]
    objects: dict[str, Objects]
    said: str


def model() -> Model:
    found = find_model("smollm2:135m")
    assert found is not None
    return found


def access_table() -> list[dict[str, str]]:
    table: list[dict[str, str]] = runpy.run_path(str(REPO / "group_data/all.py"))["access_table"]
    return [{**row, "port": "8443/tcp"} if row["id"] == "headscale" else row for row in (*table, *ROWS)]


def settle(lab: TestLab) -> None:
    """Install the other programs, as their owners would have done."""
    lab.ssh("laptop", f"{neighbours.install('nginx-light', 'ufw')}; {NGINX.format(80)} systemctl restart nginx; {UFW}")
    packages = ("nginx-light", "ufw", "docker.io", "docker-cli", "busybox-static")
    lab.ssh("home", f"{neighbours.install(*packages)}; {NGINX.format(443)} systemctl restart nginx; {UFW}; {CONTAINER}")
    lab.ssh("home", f"mkdir -p {STORE}")
    blobs = [str(blob.path) for blob in model().blobs]
    done = lab.run("scp", "-q", "-F", f".lab/{lab.name}/ssh_config", *blobs, f"home:{STORE}")
    assert done.returncode == 0, done.stderr
    # The smallest blob has the right size but a wrong content.
    small = min(model().blobs, key=lambda blob: blob.size)
    lab.ssh("home", f"head -c {small.size} /dev/zero > {STORE}/{small.path.name}")


@pytest.fixture(scope="module")
def street(single: TestLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    settle(single)
    file = write_inventory(tmp_path_factory.mktemp("street"), GROUPS["single"], {"access_table": access_table()})
    # Without rows for the other programs each host is refused, and the message names the programs that are there.
    refused(single, ("port 443/tcp", "nginx (nginx.service)", "8080/tcp", "by Docker", "ufw"), "--limit", "home")
    refused(single, ("nginx (nginx.service)", "80/tcp", "ufw"), "--limit", "laptop")
    for host in single.hosts:
        output = " ".join(single.pyinfra("--limit", host, inventory=file).stderr.split())
        assert output.count("accepted:") == 1, output
        commands = re.findall(r"ufw allow (?:in on \w+ to any port \d+ proto \w+|\d+/\w+)", output)
        assert commands, output
        single.ssh(host, " && ".join(commands))
        # Until here nft was not installed, so the run has read the rules as on a host that has only iptables.
        single.ssh(host, f"! command -v nft && {neighbours.install('nftables')}")
    before = {host: neighbours.tables(single, host) for host in single.hosts}
    objects = {host: recorded(single, host) for host in single.hosts}
    done = single.pyinfra("-vv", inventory=file)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    yield Street(single, file, before, objects, done.stderr)


def fetched(lab: TestLab, source: str, address: str, port: int) -> str:
    """The last line of a web server's answer."""
    code = (
        f"import socket; s = socket.create_connection(('{address}', {port}), 5); "
        "s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); print(s.makefile('rb').read().decode().splitlines()[-1])"
    )
    return lab.ssh(source, f'python3 -c "{code}"')


def neighbours_answer(lab: TestLab) -> None:
    place = Lab(lab.name, int(lab.net), lab.topology).place
    for host, port in (("home", 443), ("laptop", 80)):
        for address in (place(host).v4, place(host).v6):
            assert fetched(lab, "stranger", str(address), port) == "nginx"
    assert fetched(lab, "stranger", str(place("home").v4), 8080) == "container"
    assert lab.ssh("home", "docker exec web /bin/busybox wget -q -O - http://198.51.100.10/").startswith("internet")
    for host in lab.hosts:
        assert "Status: active" in lab.ssh(host, "ufw status")


def test_the_neighbours_go_on(street: Street) -> None:
    neighbours_answer(street.lab)


def test_their_tables_are_as_they_were(street: Street) -> None:
    for host in street.lab.hosts:
        assert "ufw-user-input" in street.before[host]
        assert neighbours.tables(street.lab, host) == street.before[host]


def test_the_models_were_adopted(street: Street) -> None:
    *others, small = sorted(model().blobs, key=lambda blob: -blob.size)
    for blob in others:
        assert f"cp --reflink=auto -- {STORE}/{blob.path.name} " in street.said
    assert (
        f"{STORE}/{small.path.name} is damaged" in street.said
        and f"cp --reflink=auto -- {STORE}/{small.path.name}" not in street.said
    )
    owners = f"stat -c '%U %h' {STORE}/{others[0].path.name} /var/lib/ollama/models/blobs/{others[0].path.name}"
    assert street.lab.ssh("home", owners).split() == ["root", "1", "ollama", "1"]


def test_a_second_run_changes_nothing(street: Street) -> None:
    totals = street.lab.deploy(inventory=street.inventory)["totals"]
    assert totals["success"] == totals["error"] == 0


def test_the_verification_passes(street: Street) -> None:
    command = (sys.executable, "-m", "pytest", "tests/verify", "--inventory", street.inventory)
    done = street.lab.run(*command, "--reports", str(Path(street.inventory).parent / "reports"))
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_all_come_back_after_a_reboot(street: Street) -> None:
    done = street.lab.lab("reboot", "home")
    assert done.returncode == 0, done.stdout + done.stderr
    street.lab.ssh("home", "for i in $(seq 60); do docker exec web /bin/busybox true && exit 0; sleep 1; done; exit 1")
    neighbours_answer(street.lab)
    assert "policy drop" in street.lab.ssh("home", "nft list chain inet private_ai input")
    operations = street.lab.deploy(inventory=street.inventory)["operations"]
    # The model is in memory again after its first use.
    assert {each["name"] for each in operations if each["success"]} <= {"Ollama | One token", STAMP}


def test_a_port_that_is_published_later_is_warned_of(street: Street) -> None:
    run = "docker run --detach --name late --publish 9000:80 box /bin/busybox httpd -f -p 80 -h /www >/dev/null"
    street.lab.ssh("home", run)
    try:
        done = street.lab.pyinfra("--dry", inventory=street.inventory)
        assert done.returncode == 0 and "port 9000/tcp is passed on to" in " ".join(done.stderr.split())
    finally:
        street.lab.ssh("home", "docker rm --force late >/dev/null")


#: What a running Docker and other programs write by themselves, and what is only there since the host was restarted.
BY_ITSELF = ("/var/lib/docker/", "/var/lib/containerd/", "/var/lib/nginx/", "/var/spool/")


def test_the_house_goes_and_the_neighbours_stay(street: Street) -> None:
    lab = street.lab
    told = {
        host: counted(before, recorded(lab, host), brought(lab, host, before))
        for host, before in street.objects.items()
    }
    program = str(Path(sys.executable).parent / "pyinfra")
    data = ("--data", "everything=house", "--data", "data=delete")
    done = lab.run(program, "-y", street.inventory, "playbooks/remove.py", *data)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    neighbours_answer(lab)
    for host in lab.hosts:
        before, packages = street.objects[host], brought(lab, host, street.objects[host])
        after = recorded(lab, host)
        print(f"{host}: new objects, changed ones of others: {told[host]} -> {counted(before, after, packages)}")
        found = differences(before, after, (), packages)
        assert not [each for each in found if not each.startswith(BY_ITSELF)], "\n".join(found)
