"""The internals of pyinfra, paramiko and gevent that this project uses still exist."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from operations.engine.pyinfra_inside import PLACES, SEEN_IN, Place

ROOT = Path(__file__).parent.parent.parent
#: A script that prints the parameters of each place. It runs in its own process, because importing pyinfra_cli changes
#: Python's sockets.
LOOK = """
import inspect, json
from operations.engine.pyinfra_inside import PLACES
said = {}
for place in PLACES:
    try:
        owner = place.owner()
        if place.takes == "built in":
            used = f"{place.name}(" in inspect.getsource(owner) and not hasattr(owner, place.name)
            said[place.where] = "built in" if used else "not called there, or a function of its own"
        else:
            said[place.where] = ", ".join(inspect.signature(place.now()).parameters)
    except (ImportError, AttributeError) as error:
        said[place.where] = f"is not there: {error}"
print(json.dumps(said))
"""
#: A script that prints the internal data of the libraries' objects, also in its own process.
KEPT = """
import inspect, json
import gevent, paramiko
from pyinfra.api import Config, Inventory, State
from pyinfra.api.host import Host
from pyinfra.api.operation import OperationMeta
from pyinfra.connectors.sshuserclient.client import SSHClient
from pyinfra.connectors.ssh import SSHConnector
state = State(Inventory((["@local"], {})), Config())
host = next(iter(state.inventory))
wanted = {
    "state": (state, "current_stage is_executing ops get_op_meta set_stage limit_hosts check_for_changes "
                     "should_raise_failed_hosts fail_hosts is_host_in_limit activate_host"),
    "host": (host, "current_op_hash executing_op_hash op_hash_order connector connected print_prefix"),
    "operation's meta": (OperationMeta, "will_change is_complete did_change did_succeed"),
    "SSH connector": (SSHConnector(state, host), "client"),
    "SSH client": (SSHClient(), "_host_keys get_transport"),
    "gevent's hub": (gevent.get_hub(), "print_exception"),
}
missing = [
    f"{what} has no {name}" for what, (it, names) in wanted.items() for name in names.split() if not hasattr(it, name)
]
if "_channels" not in inspect.getsource(paramiko.Transport.__init__):
    missing.append("paramiko's Transport has no _channels")
print(json.dumps(missing))
"""


def said(script: str) -> object:
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def differing(found: object) -> list[str]:
    """Messages about the places that differ from those for which this project was written."""
    assert isinstance(found, dict)
    return [
        f"{each.where} takes ({found[each.where]}), where ({each.takes}) was seen in {SEEN_IN}: see who puts a "
        "function in this place, and try a deployment in a lab"
        for each in PLACES
        if found[each.where] != each.takes
    ]


def test_the_functions_that_are_replaced_are_those_that_were_seen() -> None:
    assert not differing(said(LOOK))


def test_what_their_objects_keep_is_still_there() -> None:
    assert said(KEPT) == []


def test_a_place_that_differs_is_named_with_what_to_do() -> None:
    found = {each.where: each.takes for each in PLACES} | {PLACES[0].where: "self, command"}
    (words,) = differing(found)
    assert words.startswith("pyinfra.connectors.ssh:SSHConnector.run_shell_command takes (self, command), where")


@pytest.mark.parametrize("package", SEEN_IN)
def test_the_versions_are_those_in_which_it_was_seen(package: str) -> None:
    assert version(package) == SEEN_IN[package], f"{package} has another version: run the lab tests, correct SEEN_IN"


def test_every_place_says_why() -> None:
    assert all(isinstance(each, Place) and each.why.endswith(".") for each in PLACES)
    assert len({each.where for each in PLACES}) == len(PLACES)


#: The libraries' modules that are not for users, and the internal data of their objects. Two classes may be used as
#: types.
INSIDE = ("pyinfra.connectors", "pyinfra.api.util", "pyinfra.api.arguments", "pyinfra_cli")
KEPT_THERE = {"_channels", "_host_keys", "current_op_hash", "executing_op_hash", "limit_hosts", "op_hash_order", "ops"}
TYPES = {"SSHConnector", "CommandOutput"}


def reaching(tree: ast.AST) -> list[str]:
    """The parts of a module that use internals of the libraries."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(INSIDE):
            found += [f"{node.module}: {each.name}" for each in node.names if each.name not in TYPES]
        elif isinstance(node, ast.Import):
            found += [each.name for each in node.names if each.name.startswith(INSIDE)]
        elif isinstance(node, ast.Attribute) and node.attr in KEPT_THERE:
            found.append(f".{node.attr}")
    return found


def test_nothing_else_reaches_into_them() -> None:
    folders = ("facts", "operations", "tasks", "playbooks")
    files = [
        ROOT / "deploy.py",
        ROOT / "config.py",
        *(file for each in folders for file in (ROOT / each).rglob("*.py")),
    ]
    found = {str(file): reaching(ast.parse(file.read_text(encoding="utf-8"))) for file in files}
    assert {Path(file).name for file, reached in found.items() if reached} == {"pyinfra_inside.py"}, found


def test_reaching_into_them_is_seen() -> None:
    assert reaching(ast.parse("from pyinfra.connectors import util\nimport pyinfra_cli.main\nhost.op_hash_order"))
    assert not reaching(ast.parse("from pyinfra.connectors.ssh import SSHConnector\nfrom pyinfra import host"))
