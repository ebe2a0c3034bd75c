"""`make diff` names each difference below its host and component. It shows no secret and changes nothing. A run repairs
the differences.

The house is that of test_house.py, which runs before.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from typing import Any

import pytest

from tests.lab.conftest import REPO, STAMP, TestLab
from tests.lab.test_house import changed

PATH = "/var/lib/private-ai/deployed.json"


@pytest.fixture(scope="module")
def house(single: TestLab) -> TestLab:
    """The deployed house. If test_house.py has run before, this deployment changes nothing."""
    single.deploy()
    return single


def look(house: TestLab, *arguments: str) -> subprocess.CompletedProcess[str]:
    return house.run(".venv/bin/pyinfra", house.inventory, "playbooks/diff.py", *arguments)


def stamps(house: TestLab) -> dict[str, dict[str, Any]]:
    return {host: json.loads(house.ssh(host, f"cat {PATH}")) for host in house.hosts}


def test_a_deployed_house_does_not_differ_and_says_from_what_it_was_deployed(house: TestLab) -> None:
    # If a test run was started by make, this make would print its directory without the option.
    done = house.run("make", "--no-print-directory", "diff")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "Nothing differs on home, laptop."
    assert "\x1b" not in done.stdout
    # -y skips pyinfra's own search for changes.
    shown = json.loads(look(house, "-y", "--data", "json=true").stdout)
    assert shown["differs"] is False
    commit = house.run("git", "rev-parse", "HEAD").stdout.strip()[:12] or "unknown"
    for host, stamp in stamps(house).items():
        assert shown["hosts"][host] == {
            "stamp": stamp,
            "here": {name: stamp[name] for name in ("revision", "settings", "programs", "host")},
            "changes": [],
        }
        assert stamp["revision"].removesuffix("+") == commit
        assert house.ssh(host, f"stat -c '%U %a' {PATH}") == "root 644"
    assert set(stamps(house)["laptop"]["programs"]) == {"tailscale", "pyinfra"}


def test_what_differs_is_named_nothing_secret_is_shown_and_a_run_puts_it_right(house: TestLab) -> None:
    before, token = stamps(house), house.ssh("home", "cat /etc/openclaw/token")
    house.ssh(
        "home",
        "systemctl stop ollama; echo '# by hand' >> /etc/private-ai/firewall.nft; rm /usr/local/bin/headscale; "
        "chmod 0444 /etc/openclaw/token; cat /etc/openclaw/token >> /etc/openclaw/openclaw.json",
    )
    # Somebody has written a secret into this file, and has made it readable for root only.
    house.ssh("laptop", "cd /etc/default; chmod 0600 tailscaled; echo 'KEY=not-for-others' >> tailscaled")
    done = look(house, "-vvv")
    assert done.returncode == 1, done.stderr[-3000:]
    for secret in (token, "not-for-others"):
        assert secret not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for host, component, line in (
        ("home", "Firewall", "file /etc/private-ai/firewall.nft would be written (its content differs)"),
        ("home", "Firewall", "  -# by hand"),
        ("home", "Headscale", "not known before the run: Headscale does not answer"),
        ("home", "Ollama", "unit ollama.service would be started (it is stopped)"),
        (
            "home",
            "OpenClaw",
            "secret /etc/openclaw/token would be given its owner and mode (mode 0444 instead of 0400)",
        ),
        (
            "home",
            "OpenClaw",
            "file /etc/openclaw/openclaw.json would be written (its content differs and is not shown)",
        ),
        (
            "laptop",
            "Tailscale",
            "file /etc/default/tailscaled would be written (its content differs and is not shown, "
            "mode 0600 instead of 0644)",
        ),
    ):
        at = lines.index(f"    {line}")
        above = [each for each in lines[:at] if each[:1] not in ("", " ")]
        assert above[-1].startswith(f"{host}: deployed")
        assert [each for each in lines[:at] if each[:2] == "  " and each[2:3] != " "][-1] == f"  {component}"
    assert any(line.startswith("    link /usr/local/bin/headscale would be set to /opt/private-ai/") for line in lines)
    assert lines[-1].startswith("Differences: ") and " on home, 2 on laptop." in lines[-1]
    # There is one more remote command, and only for the host of which contents are shown. pyinfra prints a command on
    # several lines, the first of which begins with the host.
    asked = re.findall(r"\[(\w+)\]\S* *>>> ((?:(?!>>> ).)*)", done.stderr, re.DOTALL)
    assert [host for host, command in asked if "base64 -w 0" in command] == ["home"], asked
    assert house.ssh("home", "systemctl is-active ollama", check=False) == "inactive"
    assert stamps(house) == before
    done = look(house, "--limit", "laptop", "--data", "json=true")
    assert done.returncode == 1
    [(host, shown)] = json.loads(done.stdout)["hosts"].items()
    assert host == "laptop" and {each["component"] for each in shown["changes"]} == {"Tailscale"}

    changes = changed(house)
    assert set(changes[STAMP]) == {"home", "laptop"}
    assert look(house).returncode == 0
    after = stamps(house)
    assert all(after[host]["when"] > before[host]["when"] for host in house.hosts)
    # If a run changes nothing, the stamp keeps the time of the last run that did.
    assert changed(house) == {}
    assert stamps(house) == after


def test_another_revision_is_told_and_is_no_difference(house: TestLab) -> None:
    house.ssh("laptop", f'sed -i \'s/"revision": ".*"/"revision": "0123456789ab"/\' {PATH}')
    done = look(house)
    assert done.returncode == 0, done.stdout
    assert "revision 0123456789ab, here " in done.stdout
    assert "only the stamp differs; the next run writes it anew" in done.stdout
    assert changed(house) == {STAMP: ["laptop"]}
    # A stamp that other accounts of the host can write does not count.
    house.ssh("home", f"chmod 0666 {PATH}")
    assert "home: no deployment has been completed here" in look(house).stdout
    assert changed(house) == {STAMP: ["home"]}


def test_a_look_that_is_broken_off_is_no_answer(house: TestLab) -> None:
    command = [".venv/bin/pyinfra", house.inventory, "playbooks/diff.py"]
    with subprocess.Popen(
        command, cwd=REPO, env=house.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        assert any("Preparing operation files" in line for line in run.stderr)
        run.send_signal(signal.SIGINT)
        said, _ = run.communicate(timeout=60)
    assert run.returncode == 130 and "differs" not in said
