"""Virtual hosts for the demo and the tests.

Several labs can run beside each other: give each a name and a subnet number. Defaults come from LAB, LAB_NET
and TOPOLOGY.
"""

from __future__ import annotations

import argparse
import os
import sys

from lab import access, again, lifecycle, why
from lab.machine import BROWSER_PACKAGES
from lab.progress import console
from lab.state import LabError, State, chosen_name, current_lab
from lab.topology import DEFAULT_NET, DEFAULT_TOPOLOGY, FRESH, TOPOLOGIES, Lab, parse_net, parse_profile
from plan.engine.errors import SettingError

#: This word stands for a number that nothing on this machine uses. It is chosen under a lock, so that no two labs
#: choose the same one.
ANY_NET = "free"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("prepare", "install what the machine needs, and build the packed root"),
        ("up", "bring the lab up, or the parts of it that are missing"),
        ("down", "remove the lab and nothing else"),
        ("status", "show which hosts run"),
        ("ssh", "HOST [COMMAND...]: a shell or a command on a host"),
        ("reboot", "HOST: restart a host and wait for it"),
        ("reinstall", "HOST: give a host an empty disk, as if the machine had been replaced"),
        ("why", "collect journals, rules and states of all hosts, to see why something failed"),
    ):
        command = commands.add_parser(name, help=text)
        if name != "prepare":
            command.add_argument("--name", default=chosen_name(), help="name of the lab (default: LAB, or demo)")
        if name == "prepare":
            command.add_argument("--browser", action="store_true", help="also the browser of the tests")
        if name in ("prepare", "up"):
            profile = "fresh, lived-in, or names of habits with commas between (default: LAB_PROFILE, or fresh)"
            command.add_argument("--profile", help=profile)
        if name == "up":
            command.add_argument("--net", help="its subnet number N: 10.N.0.0/24, or `free` (default: LAB_NET, or 77)")
            command.add_argument("--topology", help=" or ".join(TOPOLOGIES) + " (default: TOPOLOGY, or single)")
            command.add_argument("--phone", action="store_true", help="add a person's device that is in no inventory")
            one_core = "hosts see a processor of one core, so that two labs do not wait for each other's threads"
            command.add_argument("--one-core", action="store_true", help=one_core)
            in_memory = "keep the hosts' files in memory, up to 4 GB for a lab"
            command.add_argument("--in-memory", action="store_true", help=in_memory)
        if name in ("ssh", "reboot", "reinstall"):
            command.add_argument("host")
        if name == "ssh":
            command.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    return parser


def main() -> int:
    options = arguments().parse_args()
    if options.command in ("prepare", "up", "down", "reboot", "reinstall", "why") and os.geteuid() != 0:
        print(f"python -m lab {options.command} needs root: run it again with sudo", file=sys.stderr)
        return 2
    try:
        return _do(options)
    except SettingError as error:
        print(error, file=sys.stderr)
        return 2
    except LabError as error:
        print(error, file=sys.stderr)
        return 1


def _do(options: argparse.Namespace) -> int:
    if options.command != "prepare":
        Lab(options.name)  # refuses a wrong name before the name becomes part of a path
    match options.command:
        case "prepare":
            more = BROWSER_PACKAGES if options.browser else ()
            _, root = lifecycle.prepare(*more, habits=parse_profile(_profile(options) or FRESH))
            console.print(f"ready: {root}", soft_wrap=True)
        case "up":
            there = State.of(options.name).read_lab()
            lifecycle.up(_wanted(options, there), any_net=options.net == ANY_NET and there is None)
        case "down":
            left = lifecycle.down(Lab(options.name).name)
            for line in left:
                print(f"left behind: {line}", file=sys.stderr)
            return 1 if left else 0
        case "status":
            return _status(current_lab(options.name))
        case "ssh":
            command = [*access.ssh_command(options.name), options.host, *options.words]
            os.execvp(command[0], command)
        case "why":
            return _why(current_lab(options.name))
        case "reboot":
            again.reboot(current_lab(options.name), options.host)
        case "reinstall":
            again.reinstall(current_lab(options.name), options.host)
    return 0


def _why(lab: Lab) -> int:
    state = State.of(lab.name)
    if state.read_lab() is None:
        print(f"lab {lab.name} is not up. If a test has failed, the state of its hosts is in reports/why")
        return 1
    for found in why.collect(lab, state.directory / "why"):
        console.print(f"{found.host:10} {found.file}", soft_wrap=True, markup=False)
        for line in found.brief.splitlines():
            console.print(f"{'':10} {line}", soft_wrap=True, markup=False)
    return 0


def _wanted(options: argparse.Namespace, there: Lab | None) -> Lab:
    # Options that are not given keep their value: so `up` without options repairs a lab of any topology.
    net = (options.net if options.net != ANY_NET else "") or os.environ.get("LAB_NET")
    topology = options.topology or os.environ.get("TOPOLOGY")
    profile = _profile(options)
    return Lab(
        options.name,
        parse_net(net) if net else there.net if there else DEFAULT_NET,
        topology or (there.topology if there else DEFAULT_TOPOLOGY),
        phone=options.phone or bool(there and there.phone),
        habits=parse_profile(profile) if profile else there.habits if there else (),
        one_core=options.one_core or bool(there and there.one_core),
        in_memory=options.in_memory or bool(there and there.in_memory),
    )


def _profile(options: argparse.Namespace) -> str | None:
    return options.profile or os.environ.get("LAB_PROFILE")


def _status(lab: Lab) -> int:
    state = State.of(lab.name)
    if state.read_lab() is None:
        print(f"lab {lab.name} is not up")
        return 1
    healthy = True
    for host in lab.hosts:
        try:
            pid = access.leader(host.name, lab.name)
            said = access.run_on(host.name, "systemctl is-system-running", name=lab.name, timeout=15)
            text = said.stdout.strip().rpartition("\n")[2] or said.stderr.strip()
        except LabError:
            pid, text = 0, "stopped"
        healthy &= text == "running"
        print(f"{host.name:10} {host.v4!s:14} {host.v6!s:22} pid {pid:<8} {text}")
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
