"""Whole houses that are deployed twice, interrupted and rebooted. The tests do not use the deployment's own facts."""

from __future__ import annotations

import base64
import json
import re
import shlex
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plan.engine.upload_folder import IMAGE_INCOMING
from plan.verification import secret_files
from tests.lab import neighbours
from tests.lab.conftest import REPO, STAMP, TestLab
from tests.unit import houses
from tests.verify.probes.secrets import Seeker, values

#: The steps at which the first deployment of `split` is interrupted. Each run goes on where the last one stopped. The
#: points are: while packages and rules are installed; while programs are sent; while a host joins; while a model or an
#: image is sent.
POINTS = ((3, "cut"), (9, "during"), (14, "after"), (16, "cut"), (12, "during"))


@pytest.fixture(scope="module", params=["single", "split"])
def house(request: pytest.FixtureRequest) -> Iterator[TestLab]:
    """A deployed house of each topology, one after the other."""
    lab: TestLab = request.getfixturevalue(request.param)
    (Path(lab_state(lab)) / "neighbours.json").write_text(json.dumps(neighbours.furnish(lab)))
    if lab.topology == "split":
        # These are a few of the points of tests/lab/test_interruptions.py.
        for step, how in POINTS:
            done = lab.run(sys.executable, "-m", "lab.interrupt", str(step), how, "-y", lab.inventory, "deploy.py")
            assert done.returncode == -9, done.stdout[-2000:] + done.stderr[-6000:]
    first = lab.pyinfra("-vvv")
    assert first.returncode == 0, first.stdout[-2000:] + first.stderr[-6000:]
    (Path(lab_state(lab)) / "first-run.log").write_text(first.stdout + first.stderr)
    yield lab


def lab_state(lab: TestLab) -> str:
    return str(REPO / ".lab" / lab.name)


def roles(lab: TestLab) -> dict[str, str]:
    """Role -> name of the host."""
    if lab.topology == "single":
        return dict.fromkeys(("coordinator", "gateway", "model"), "home")
    return {"coordinator": "hub", "gateway": "gate", "model": "brain"}


def changed(lab: TestLab, *arguments: str) -> dict[str, list[str]]:
    """Deploy. Returns operation -> hosts, for the operations that changed something."""
    operations = lab.deploy(*arguments)["operations"]
    return {operation["name"]: operation["success"] for operation in operations if operation["success"]}


def test_a_second_run_changes_nothing(house: TestLab) -> None:
    results = house.deploy()
    assert results["totals"]["success"] == 0, changed(house)
    assert results["totals"]["error"] == 0
    assert results["totals"]["no_change"] >= 10 * len(house.hosts)


def test_a_dry_run_of_a_deployed_house_plans_nothing(house: TestLab) -> None:
    done = house.run(".venv/bin/pyinfra", house.inventory, "deploy.py", "--dry", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)["plan"]
    assert [operation for operation in plan if operation["hosts_with_change"]] == []


def test_the_verification_passes(house: TestLab) -> None:
    reports = f"{lab_state(house)}/reports"
    done = house.run(
        sys.executable, "-m", "pytest", "tests/verify", "--inventory", house.inventory, "--reports", reports
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    report = json.loads((Path(reports) / "verification.json").read_text())
    # The lab's hosts are made from a bare root, so no check may fail, and few checks may be skipped.
    assert report["passed"] > 60 and not report["failed"] and report["skipped"] <= 6


def test_secrets_stay_where_they_were_made(house: TestLab) -> None:
    role = roles(house)
    token = house.ssh(role["gateway"], "cat /etc/openclaw/token")
    assert re.fullmatch(r"[0-9a-f]{64}", token)
    log = (Path(lab_state(house)) / "first-run.log").read_text()
    assert token not in log
    # A key of 20 characters or more: a list of keys shows only the first characters of each.
    assert not re.search("hskey-auth-[A-Za-z0-9_-]{20}|PRIVATE KEY", log)
    for host in house.hosts:
        # Search all files that an account without rights can read, for every kind of secret.
        search = (
            (
                "find / -xdev ( -path /proc -o -path /sys -o -path /usr/share -o -path /usr/lib ) -prune "
                "-o -type f -readable -print0 2>/dev/null"
            )
            .replace("(", "\\(")
            .replace(")", "\\)")
        )
        kinds = f"hskey-auth-[A-Za-z0-9_-]{{20}}|PRIVATE KEY-----|{token}"
        found = house.ssh(
            host,
            f"setpriv --reuid=nobody --regid=nogroup --clear-groups sh -c "
            f"{shlex.quote(f'{search} | xargs -0 grep -lsIE {shlex.quote(kinds)}')} || true",
        )
        # Programs are left out (-I): they contain the pattern of a key, but no key.
        assert found == ""
        for where in ("journalctl --no-pager -q", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"):
            said = house.ssh(host, f"{where} | grep -cE 'hskey-auth-[A-Za-z0-9_-]{{20}}|{token[:20]}' || true")
            # The arguments of the search itself contain the pattern, so the search finds itself.
            assert int(said) <= (2 if "cmdline" in where else 0), f"{host}: {where}"


def test_no_secret_gets_to_the_controller(house: TestLab, tmp_path: Path) -> None:
    """No secret is in what runs print, also with all options for more output, or in files that they leave here."""
    secrets: dict[str, list[bytes]] = {}
    for member in {"single": houses.single, "split": houses.split}[house.topology]().members:
        for file in secret_files(member):
            copy = tmp_path / f"{member.name}-{Path(file.path).name}"
            copy.write_bytes(base64.b64decode(house.ssh(member.name, f"base64 {file.path}")))
            secrets[f"{member.name}:{file.path}"] = values(str(copy))
    assert all(secrets[f"{host}:/var/lib/tailscale/tailscaled.state"] for host in house.hosts)
    assert sum(map(len, secrets.values())) >= 10
    seeker = Seeker(secrets)
    printed = {"first run": (Path(lab_state(house)) / "first-run.log").read_bytes()}
    for name, arguments in {
        "--dry --diff": ("deploy.py", "--dry", "--diff"),
        "second run": ("-y", "deploy.py", "--diff"),
        "chat": ("-y", "playbooks/chat.py", "--data", "message=Hello"),
        "devices": ("-y", "playbooks/device_list.py"),
        "diff": ("playbooks/diff.py",),
    }.items():
        done = house.run(".venv/bin/pyinfra", "-vvv", "--debug", house.inventory, *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        printed[name] = (done.stdout + done.stderr).encode()
    assert all(len(text) > 1000 for text in printed.values())
    # Consoles, logs and reports have a suffix. The lab's own SSH keys have none, and are no secrets of the house.
    for path in (*(REPO / "reports").rglob("*.*"), *(REPO / ".lab" / house.name).glob("*.*")):
        if path.is_file():
            printed[str(path)] = path.read_bytes()
    for path in (REPO / ".lab" / house.name / "reports").glob("*"):
        printed[str(path)] = path.read_bytes()
    assert any("verification.json" in name for name in printed)
    assert {name: found for name, text in printed.items() if (found := seeker.names(text))} == {}


def test_what_was_stopped_or_edited_is_put_right_by_the_next_run(house: TestLab) -> None:
    role = roles(house)
    house.ssh(role["model"], "systemctl stop ollama; echo '# edited' >> /etc/systemd/system/ollama.service")
    house.ssh(role["coordinator"], "rm /var/lib/private-ai/stamps/headscale.service")
    house.ssh("laptop", "nft delete table inet private_ai; echo '# edited' >> /etc/private-ai/firewall.nft")
    done = changed(house)
    assert done["Ollama | Program, service"] == [role["model"]]
    assert done["Headscale | Configuration, policy, service"] == [role["coordinator"]]
    assert done["Firewall | Rules of the access table"] == ["laptop"]
    assert house.ssh(role["model"], "systemctl is-active ollama") == "active"
    assert "policy drop" in house.ssh("laptop", "nft list chain inet private_ai input")
    assert changed(house) == {}


def test_an_image_that_was_not_loaded_well_beside_the_run_is_loaded_again(house: TestLab) -> None:
    gateway = roles(house)["gateway"]
    # As if the image had not been loaded. The uploaded archive is damaged as soon as the loading begins.
    house.ssh(gateway, "rm /var/lib/private-ai/openclaw.image")
    unit, incoming = "/run/systemd/transient/private-ai-openclaw-image.service", IMAGE_INCOMING
    spoil = f"until test -e {unit}; do sleep 0.01; done; truncate --size 1000 {incoming}/*"
    house.ssh(gateway, f"systemd-run --quiet --collect --unit=spoil sh -c '{spoil}'")
    assert set(changed(house)) - {STAMP} == {"OpenClaw | Image", "OpenClaw | Image loaded"}
    assert "spoil" not in house.ssh(gateway, "systemctl list-units --plain --no-legend spoil.service")
    assert house.ssh(gateway, f"ls -d {incoming} || true") == ""
    assert changed(house) == {}


def test_nobody_s_message_is_the_first_after_a_start(house: TestLab) -> None:
    role = roles(house)
    begun = house.ssh(role["model"], "date +%s; systemctl restart ollama")
    # The deployment loads the model. The gateway's host notices by itself that the model has not read the prompt yet.
    assert set(changed(house)) <= {"Ollama | One token", STAMP}
    logged = f"journalctl -q -o cat -u ollama --since @{begun}"
    house.ssh(
        role["model"],
        f"for i in $(seq 150); do {logged} | grep -q '200 .*POST .*/api/chat' && exit; sleep 1; done; exit 1",
    )
    assert _whole_prompts(house.ssh(role["model"], logged)) == [True]
    chat = house.run(".venv/bin/pyinfra", "-y", house.inventory, "playbooks/chat.py", "--data", "message=Hi")
    assert chat.returncode == 0, chat.stderr[-3000:]
    said = house.ssh(role["model"], logged)
    # The model had to read only the end of the person's prompt, and it was not loaded again.
    assert _whole_prompts(said) == [True, False]
    assert said.count("starting llama-server") == 1
    in_container = "systemd-run --quiet --user --machine=openclaw@ --pipe --wait --collect podman exec openclaw"
    shown = house.ssh(role["gateway"], f"cd /; {in_container} openclaw gateway call sessions.list --json")
    stored = json.loads(house.ssh(role["gateway"], f"cd /; {in_container} openclaw sessions --json"))["sessions"]
    # The session of the first message is archived, and there is only the one of this start.
    assert '"key"' in shown and "first-message" not in shown
    [own] = [session for session in stored if "first-message" in session["key"]]
    assert own["inputTokens"] < 2500, own


def _whole_prompts(log: str) -> list[bool]:
    """For each prompt of OpenClaw in Ollama's log: whether the model had to read the whole prompt."""
    prompts = [int(number) for number in re.findall(r"task\.n_tokens = (\d+)", log)]
    read = [int(number) for number in re.findall(r"prompt eval time = .*?/\s*(\d+) tokens", log)]
    return [part > 2000 for whole, part in zip(prompts, read, strict=True) if whole > 2000]


def test_a_new_laptop_joins_with_limit_and_nothing_else_is_touched(house: TestLab) -> None:
    role = roles(house)
    # Like a new machine, it has no state of Tailscale, and the control server does not know it.
    house.ssh("laptop", "systemctl stop tailscaled; rm -rf /var/lib/tailscale/*")
    nodes = json.loads(house.ssh(role["coordinator"], "headscale nodes list -o json"))
    number = next(node["id"] for node in nodes if node["name"] == "laptop")
    house.ssh(role["coordinator"], f"headscale nodes delete -i {number} --force")
    others = {host: house.ssh(host, SNAPSHOT) for host in house.hosts if host != "laptop"}
    done = changed(house, "--limit", "laptop")
    assert set(done) == {"Tailscale | Program, service", "Tailscale | Join the house", STAMP}
    assert all(hosts == ["laptop"] for hosts in done.values())
    assert {host: house.ssh(host, SNAPSHOT) for host in others} == others
    nodes = json.loads(house.ssh(role["coordinator"], "headscale nodes list -o json"))
    assert sorted(node["name"] for node in nodes) == sorted(house.hosts)
    assert changed(house) == {}


#: A command that prints the files of the deployment with their times, and when each service was started.
SNAPSHOT = (
    "find /etc /opt/private-ai /usr/local -xdev -newer /etc/machine-id -type f -printf '%p %T@\\n' | sort; "
    "systemctl show -p Id,ActiveEnterTimestampMonotonic headscale tailscaled ollama private-ai-firewall"
)


#: A command that waits until the gateway is ready.
READY = (
    "for i in $(seq 120); do curl -s --max-time 5 --resolve {name}:18789:127.0.0.1 https://{name}:18789/readyz "
    "| grep -q '\"ready\":true' && exit 0; sleep 1; done; exit 1"
)


def test_tables_of_others_are_as_they_were(house: TestLab) -> None:
    """After the first run, and after the house's table was loaded again."""
    before = json.loads((Path(lab_state(house)) / "neighbours.json").read_text())
    for host in house.hosts:
        assert len(before[host].splitlines()) > 40
        assert neighbours.tables(house, host) == before[host], host
        house.ssh(host, "systemctl reload private-ai-firewall")
        assert neighbours.tables(house, host) == before[host], host


def test_rules_in_debian_s_own_unit_do_not_take_the_house_s_away(house: TestLab) -> None:
    """The file of that unit begins with `flush ruleset`."""
    house.ssh("laptop", "systemctl start nftables")
    house.ssh("laptop", "systemctl reload private-ai-firewall")
    try:
        for verb in ("reload", "restart", "stop", "start"):
            house.ssh("laptop", f"systemctl {verb} nftables")
            if verb != "stop":
                # The house's unit starts after Debian's unit has finished.
                look = "nft list chain inet private_ai input 2>/dev/null"
                shown = house.ssh("laptop", f"for i in $(seq 30); do {look} && exit; sleep 0.1; done; exit 1")
                assert "policy drop" in shown, verb
    finally:
        house.ssh("laptop", "systemctl stop nftables; systemctl start private-ai-firewall")
    assert changed(house, "--limit", "laptop") == {}


def back(house: TestLab) -> None:
    """Wait until everything works again by itself. A message that is answered proves it."""
    gateway = roles(house)["gateway"]
    house.ssh(gateway, READY.format(name=f"{gateway}.vpn.house.internal"))
    joined = "for i in $(seq 60); do tailscale status --peers=false >/dev/null && exit 0; sleep 1; done; exit 1"
    for host in house.hosts:
        house.ssh(host, joined)
    # A node that has joined may not have a connection to the others yet.
    model = roles(house)["model"]
    house.ssh(
        model, "for i in $(seq 60); do curl -sf 127.0.0.1:11434/api/version >/dev/null && exit 0; sleep 1; done; exit 1"
    )
    if model != gateway:
        at = house.ssh(model, "tailscale ip -4")
        found = f"for i in $(seq 30); do tailscale ping --c 1 {at} | grep -q pong && exit 0; sleep 1; done; exit 1"
        house.ssh(gateway, found)
    chat = house.run(".venv/bin/pyinfra", "-y", house.inventory, "playbooks/chat.py", "--data", "message=Hello")
    assert chat.returncode == 0, chat.stderr[-3000:]
    assert "answer:" in chat.stderr


def addresses(house: TestLab) -> dict[str, str]:
    return {host: house.ssh(host, "tailscale ip") for host in house.hosts}


def rules_before_the_network(house: TestLab, host: str) -> None:
    show = "systemctl show --property=ActiveEnterTimestampMonotonic --value private-ai-firewall {}"
    rules, network = house.ssh(host, show.format("systemd-networkd")).split()
    assert 0 < int(rules) < int(network), f"{host}: the network was up before the rules"


def reboot(house: TestLab, *hosts: str) -> None:
    """Restart all these hosts at the same time."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        for done in pool.map(lambda host: house.lab("reboot", host), hosts):
            assert done.returncode == 0, done.stdout + done.stderr


def test_each_server_comes_back_after_a_reboot(house: TestLab) -> None:
    before = addresses(house)
    for host in dict.fromkeys(roles(house).values()):
        reboot(house, host)
    back(house)
    assert addresses(house) == before
    # The model is in memory again after its first use.
    assert set(changed(house)) <= {"Ollama | One token", STAMP}


def test_all_hosts_come_back_when_they_restart_at_once_and_the_coordinator_last(house: TestLab) -> None:
    before, coordinator = addresses(house), roles(house)["coordinator"]
    house.ssh(coordinator, "systemctl disable --quiet --now headscale")
    # Without the control server the other hosts go on working: a message is answered.
    back(house)
    reboot(house, *house.hosts)
    house.ssh(coordinator, "systemctl enable --quiet --now headscale")
    begun = time.monotonic()
    back(house)
    print(f"{house.topology}: everything answers {time.monotonic() - begun:.0f} s after the control server")
    assert addresses(house) == before
    for host in house.hosts:
        rules_before_the_network(house, host)
    assert set(changed(house)) <= {"Ollama | One token", STAMP}
