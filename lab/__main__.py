"""Virtual hosts for the demo and the tests.

Several labs can run beside each other: give each a name and a subnet number. Defaults come from LAB, LAB_NET
and TOPOLOGY.
"""

from __future__ import annotations

import argparse
import os
import sys

from lab import access, lifecycle
from lab.machine import BROWSER_PACKAGES
from lab.progress import console
from lab.state import LabError, State, chosen_name, current_lab
from lab.topology import DEFAULT_NET, DEFAULT_TOPOLOGY, TOPOLOGIES, Lab, parse_net
from plan.errors import SettingError


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("prepare", "install what the machine needs, and build the packed root"),
        ("up", "bring the lab up, or what is missing of it"),
        ("down", "remove the lab and nothing else"),
        ("status", "say what runs"),
        ("ssh", "HOST [COMMAND...]: a shell or a command on a host"),
        ("reboot", "HOST: restart a host and wait for it"),
    ):
        command = commands.add_parser(name, help=text)
        if name != "prepare":
            command.add_argument("--name", default=chosen_name(), help="name of the lab (default: LAB, or demo)")
        if name == "prepare":
            command.add_argument("--browser", action="store_true", help="also the browser of the tests")
        if name == "up":
            command.add_argument("--net", help="its subnet number N: 10.N.0.0/24 (default: LAB_NET, or 77)")
            command.add_argument("--topology", help=" or ".join(TOPOLOGIES) + " (default: TOPOLOGY, or single)")
            command.add_argument("--phone", action="store_true", help="also a person's device that is in no inventory")
        if name in ("ssh", "reboot"):
            command.add_argument("host")
        if name == "ssh":
            command.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    return parser


def main() -> int:
    options = arguments().parse_args()
    if options.command in ("prepare", "up", "down", "reboot") and os.geteuid() != 0:
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
        Lab(options.name)  # refuses a name that is none, before it becomes a path
    match options.command:
        case "prepare":
            _, root = lifecycle.prepare(*(BROWSER_PACKAGES if options.browser else ()))
            console.print(f"ready: {root}", soft_wrap=True)
        case "up":
            lifecycle.up(_wanted(options))
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
        case "reboot":
            lifecycle.reboot(current_lab(options.name), options.host)
    return 0


def _wanted(options: argparse.Namespace) -> Lab:
    # What is not said is as it is: `up` without words repairs a lab, whatever its topology.
    there = State.of(options.name).read_lab()
    net = options.net or os.environ.get("LAB_NET") or str(there.net if there else DEFAULT_NET)
    topology = options.topology or os.environ.get("TOPOLOGY")
    topology = topology or (there.topology if there else DEFAULT_TOPOLOGY)
    return Lab(options.name, parse_net(net), topology, phone=options.phone or bool(there and there.phone))


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
            text = said.stdout.strip() or said.stderr.strip()
        except LabError:
            pid, text = 0, "stopped"
        healthy &= text == "running"
        print(f"{host.name:10} {host.v4!s:14} {host.v6!s:22} pid {pid:<8} {text}")
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
