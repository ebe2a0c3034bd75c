"""A household with lived-in hosts follows the quick start, command by command, as an ordinary user.

`make test` does it once, in topology `single`; `make lived-in` five times in each of `single` and `split`.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from lab.lived_in import way
from lab.topology import LIVED_IN, OUTSIDERS
from plan.engine.stamp import PATH as STAMP_PATH
from tests.lab.conftest import TestLab, bring_up
from tests.lab.held import go_on, inside, others
from tests.lab.household import LAPTOP, SERVER, Person, commands, person, python_block
from tests.lab.inventories import GROUPS


def inventory(lab: TestLab, who: Person) -> str:
    """The page's inventory with the data of the lab's hosts. In `split`, each role has its own host."""
    page = python_block("4.")
    for address, host in ((SERVER, "home"), (LAPTOP, "laptop")):
        theirs = f'"ssh_hostname": "{address}", "ssh_user": "root"'
        assert theirs in page
        page = page.replace(theirs, who.data(who.lab.place(host)))
    if lab.topology == "single":
        return page
    hosts = {name: f'[("{name}", {{{who.data(who.lab.host(name))}}})]' for name in lab.hosts}
    return "".join(f"{group} = {hosts[name]}\n" for group, (name,) in GROUPS[lab.topology].items())


def other_port(who: Person, settings: str) -> str:
    """The settings with rows for two ports of sshd: one for the coordinator, one for the groups on other hosts."""
    old = '"id": "ssh",\n        "from": "admin",\n        "to": "all",\n        "port": "22/tcp"'
    assert old in settings
    port = way(who.lab, who.lab.hosts[0]).port
    elsewhere = [group for group, hosts in GROUPS[who.lab.topology].items() if who.lab.hosts[0].name not in hosts]
    row = '{{"id": "ssh-{0}", "from": "admin", "to": "{1}", "port": "22/tcp", "over": "lan", "why": "repair"}},\n'
    settings = settings.replace(old, old.replace('"all"', '"coordinator"').replace("22", str(port)))
    rows = "".join("    " + row.format(group.replace("_", "-"), group) for group in elsewhere)
    return settings.replace("access_table = [\n", f"access_table = [\n{rows}")


def settle(lab: TestLab, who: Person) -> None:
    """Sections 3 to 5 of the quick start: keys, inventory, settings."""
    make, *_ = (command for command in commands("3.") if command.startswith("ssh-keygen"))
    who.succeeds(make)
    key = (who.home / ".ssh/id_ed25519.pub").read_text()
    # These hosts accept no passwords. For that case the page says that the host's owner adds the key.
    for where in (*lab.hosts, OUTSIDERS[0]):
        user = way(who.lab, who.lab.host(where)).user
        home = "/root" if user == "root" else f"/home/{user}"
        inside(lab, where, f"echo {shlex.quote(key.strip())} >> {home}/.ssh/authorized_keys")
    words = [f"Host bridge\n  HostName {who.lab.host(OUTSIDERS[0]).v4}\n  User root\n"]
    behind = [who.lab.host(host) for host in lab.hosts if way(who.lab, who.lab.host(host)).jump]
    words += [f"Host {host.v4}\n  ProxyJump bridge\n" for host in behind]
    who.write(".ssh/config", "".join(words))
    [try_it] = [command for command in commands("3.") if re.match(r"ssh root@\S+ true", command)]
    [ask] = commands("5.")
    seen_as = set()
    for name in lab.hosts:
        host = who.lab.host(name)
        who.succeeds(who.own(try_it, host))
        shown = who.succeeds(who.own(ask, host))
        connection = re.search(r"^([0-9a-f.:]+) \d+ \S+ \d+\s*$", shown, re.MULTILINE)
        assert connection is not None, shown
        seen_as.add(connection[1])
    who.write("private-ai/inventory.py", inventory(lab, who))
    narrowed = ", ".join(f'"{address}/32"' for address in sorted(seen_as))
    line = python_block("5.").splitlines()[0].partition(" = ")[0] + f" = [{narrowed}]"
    settings = (who.clone / "group_data/all.py").read_text()
    settings = re.sub(r"^admin_networks = .*$", line, settings, count=1, flags=re.MULTILINE)
    # This is the only setting that the page does not mention. Without it, the run would choose a model of gigabytes for
    # this machine's memory.
    settings = re.sub(r"^ollama_model = .*$", 'ollama_model = "smallest"', settings, count=1, flags=re.MULTILINE)
    who.write("private-ai/group_data/all.py", other_port(who, settings))
    who.succeeds("make .venv/ready")


def story(lab: TestLab, who: Person) -> float:
    """Everything from fresh hosts to a message after a reboot. Returns the seconds of the first deployment."""
    settle(lab, who)
    activate, look, run = (command for command in commands("6.") if command != "make .venv/ready")
    [verify] = [command for command in commands("7.") if command == "make verify"]
    [chat] = [command for command in commands("7.") if command.startswith("make chat")]
    with others(lab, lab.hosts, "admin") as sessions:
        status, shown = who.does(f"{activate} && {look}")
        assert status == 1 and "laptop: no deployment has been completed here" in shown, shown[-4000:]
        begun = time.monotonic()
        who.succeeds(f"{activate} && {run}")
        took = time.monotonic() - begun
        go_on(lab, sessions)
        # Nothing differs, so the page's command for differences ends with status 0.
        who.succeeds(f"{activate} && {look}")
        before = stamps(lab)
        who.succeeds(f"{activate} && {run}")
        assert stamps(lab) == before, "the second run changed something"
        who.succeeds(verify)
        who.succeeds(chat)
        go_on(lab, sessions)
    for host in lab.hosts:
        done = lab.lab("reboot", host)
        assert done.returncode == 0, done.stdout + done.stderr
    # The services need some time after a restart. If the message fails, a person sends it again.
    end = time.monotonic() + 180
    while (answer := who.does(chat))[0] != 0 and time.monotonic() < end:
        time.sleep(2)
    assert answer[0] == 0, answer[1][-4000:]
    who.succeeds(verify)
    return took


def stamps(lab: TestLab) -> dict[str, str]:
    """Host -> its stamp, which says when a run has last changed something there."""
    return {host: inside(lab, host, f"cat {STAMP_PATH}") for host in lab.hosts}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep this machine busy with so many processes."""
    with ExitStack() as stack:
        for _ in range(processes):
            counting = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(counting.wait)
            stack.callback(counting.kill)
        yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    count = int(metafunc.config.getoption("--households"))
    topologies = ["single", "split"] if count else ["single"]
    numbered = [(topology, number) for topology in topologies for number in range(1, max(1, count) + 1)]
    metafunc.parametrize(("topology", "number"), numbered, ids=[f"{name}-{number}" for name, number in numbered])


def test_a_household_follows_the_quick_start(topology: str, number: int, request: pytest.FixtureRequest) -> None:
    begun = time.monotonic()
    lab = bring_up(topology, LIVED_IN)
    try:
        with person(lab) as who, busy(2 if request.config.getoption("--busy") else 0):
            took = story(lab, who)
    finally:
        lab.lab("down")
    whole = time.monotonic() - begun
    print(f"\n{topology} {number}: first deployment {took:.0f} s, all of it with the hosts' own coming {whole:.0f} s")
