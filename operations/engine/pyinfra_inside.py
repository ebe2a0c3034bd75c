"""Everything that this project uses of pyinfra, paramiko and gevent beyond their documented interfaces. No other module
uses their internals.

`PLACES` lists the functions of these libraries that this project replaces with its own functions. The functions below
read or set internal data of the libraries' objects. tests/unit/test_pyinfra_inside.py compares both with the installed
versions. If a newer version differs, that test fails and says how.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gevent
from paramiko import Transport
from pyinfra.api import Host, State, StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import StateStage
from pyinfra.connectors.util import make_unix_command_for_host

#: The versions for which this module was written.
SEEN_IN = {"pyinfra": "3.10.0", "paramiko": "4.0.0", "gevent": "26.9.0"}


@dataclass(frozen=True)
class Place:
    """A function of a library. `where` is "module:name" or "module:class.name". `takes` are the names of its
    parameters, or "built in" where the module uses Python's own function of that name. `why` says why this project
    replaces it."""

    where: str
    takes: str
    why: str

    def now(self) -> Any:
        """The function that is in this place now: the library's own, or the one that replaced it."""
        return getattr(self.owner(), self.name)

    def put(self, function: Callable[..., Any]) -> None:
        """Put a function of this project into this place."""
        setattr(self.owner(), self.name, function)

    @property
    def name(self) -> str:
        return self.where.rpartition(":")[2].rpartition(".")[2]

    def owner(self) -> Any:
        """The module or class that contains the function. When pyinfra_cli is imported, it replaces Python's sockets
        with gevent's. pyinfra's command has done that already when it reads the code of this project."""
        module, _, inside = self.where.partition(":")
        found: Any = importlib.import_module(module)
        return getattr(found, inside.partition(".")[0]) if "." in inside else found


RUN_COMMAND = Place(
    "pyinfra.connectors.ssh:SSHConnector.run_shell_command",
    "self, command, print_output, print_input, arguments",
    "Every command needs the same environment on each host. If its connection is lost, a plain message says so.",
)
PUT_FILE = Place(
    "pyinfra.connectors.ssh:SSHConnector.put_file",
    "self, filename_or_io, remote_filename, remote_temp_filename, print_output, print_input, arguments",
    "If the connection is lost, a plain message says so.",
)
GET_FILE = Place(
    "pyinfra.connectors.ssh:SSHConnector.get_file",
    "self, remote_filename, filename_or_io, remote_temp_filename, print_output, print_input, arguments",
    "If the connection is lost, a plain message says so.",
)
CONNECT = Place(
    "pyinfra.connectors.ssh:SSHConnector.connect",
    "self",
    "A connection sends small packets at once and is watched. If it fails, the message says the next step.",
)
RETRY_WITH_PASSWORD = Place(
    "pyinfra.connectors.ssh:execute_command_with_sudo_retry",
    "host, command_arguments, execute_command",
    "pyinfra asks for sudo's password. The verification has nobody to ask, so no part of the project asks.",
)
READ_OUTPUT = Place(
    "pyinfra.connectors.util:read_buffer",
    "name, io, output_queue, print_output, print_func",
    "A shell may print a greeting before the answer; the greeting is removed.",
)
OPEN_SESSION = Place(
    "paramiko:Transport.open_session",
    "self, window_size, max_packet_size, timeout",
    "sshd may allow few sessions at a time; a command waits until it gets one.",
)
NOTE_HOST_KEY = Place(
    "pyinfra.connectors.sshuserclient.client:append_hostkey",
    "client, hostname, key",
    "Later connections of the same run must also know a new host key.",
)
ASK_ABOUT_HOST_KEY = Place(
    "pyinfra.connectors.sshuserclient.client:input",
    "built in",
    "Where nobody can be asked, the run says what to do instead.",
)
ASK_WHETHER_TO_GO_ON = Place(
    "pyinfra_cli.cli:input",
    "built in",
    "Where nobody can be asked, the run says what to do instead. Connections are kept while a person decides.",
)
READ_FILE = Place(
    "pyinfra_cli.inventory:exec_file",
    "filename, return_locals, is_deploy_code",
    "An inventory in a wrong form is refused before pyinfra understands it in another way.",
)
MAKE_INVENTORY = Place(
    "pyinfra_cli.cli:make_inventory",
    "inventory, override_data, cwd, group_data_directories",
    "All errors in an inventory are shown before the run connects to any host.",
)
CALL_FUNCTION = Place(
    "pyinfra.api:FunctionCommand.execute",
    "self, state, host, connector_arguments",
    "An error of an operation's function is shown as one line, not as a traceback.",
)
TELL_OF_A_FACT = Place(
    "pyinfra.api.facts:log_error_or_warning",
    "host, ignore_errors, description, continue_on_error, exception",
    "If a host gives no answer, the message says the next step.",
)
SHOW_OWN_ERROR = Place(
    "pyinfra_cli.exceptions:UnexpectedInternalError.show", "self, file", "Shown as one line, not as a traceback."
)
SHOW_OTHER_ERROR = Place(
    "pyinfra_cli.exceptions:UnexpectedExternalError.show", "self, file", "Shown as one line, not as a traceback."
)
SHOW_EXPECTED_ERROR = Place(
    "pyinfra_cli.exceptions:WrappedError.show",
    "self, file",
    "pyinfra shows which line of code refused an input. That does not help people.",
)
STACK = Place("pyinfra.api.util:stack", "context", "inspect reads the source around each frame. Nobody needs that.")
FRAME_INFO = Place("pyinfra.api.util:getframeinfo", "frame, context", "For the same reason as STACK.")
GLOBAL_ARGUMENTS = Place(
    "pyinfra.api.arguments:all_global_arguments", "", "pyinfra computes the same list again for each operation."
)
PLACES = tuple(each for each in globals().values() if isinstance(each, Place))


def replace_gevents_traceback(show: Callable[[Any, Any, Any, Any], None]) -> None:
    """Call `show(context, type, error, traceback)` when an error ends a greenlet, where gevent prints a traceback."""
    hub: Any = gevent.get_hub()
    hub.print_exception = show


def transport_of(connector: Any) -> Transport | None:
    """The SSH connection of a host's connector, None while there is none."""
    client: Any = connector.client
    found: Transport | None = client.get_transport() if client else None
    return found


def open_channels(transport: Transport) -> int:
    """How many channels are open in an SSH connection."""
    channels: Any = transport._channels  # type: ignore[attr-defined]
    return len(channels)


def know_host_key(client: Any, hostname: str, key: Any) -> None:
    """Add a server's key to those that a pyinfra SSH client and its later connections know."""
    client._host_keys.add(hostname, key.get_name(), key)


def command_line_on(host: Host, script: str, arguments: dict[str, Any]) -> str:
    """The command line that is sent to a host to run a script. `arguments` are pyinfra's, such as _sudo."""
    return make_unix_command_for_host(host.state, host, StringCommand(script), **arguments).get_raw_value()


def operation_of(host: Any) -> str:
    """The hash of the operation that is planned or carried out on a host now, "" for none."""
    return str(host.current_op_hash or host.executing_op_hash or "")


def names_of(state: Any, operation: str) -> list[str]:
    """The names of an operation, by its hash, sorted."""
    return sorted(state.get_op_meta(operation).names)


def planned_changes(state: Any, host: Host) -> Iterator[str]:
    """The hashes of the operations that would change a host, in their order. For runs that only plan."""
    for operation in host.op_hash_order:
        if state.ops[host][operation].operation_meta.will_change:
            yield operation


def has_changed(state: Any, host: Host) -> bool:
    """Whether the run has changed a host so far. While planning: whether it is going to change the host."""
    metas = [each.operation_meta for each in state.ops[host].values()]
    if state.is_executing:
        return any(meta.is_complete() and meta.did_change() for meta in metas)
    return any(meta.will_change for meta in metas)


def may_have_changed(state: Any, operation: str) -> bool:
    """Whether an operation that has ended has changed any host, or has failed, so that it may have changed one."""
    metas = [ops[operation].operation_meta for ops in state.ops.values() if operation in ops]
    return any(meta.is_complete() and (meta.did_change() or not meta.did_succeed()) for meta in metas)


def is_planning(state: Any) -> bool:
    """Whether the run has not begun to carry out operations."""
    return (state.current_stage or StateStage.Setup) < StateStage.Execute


def before_each_stage(state: Any, call: Callable[[StateStage], None]) -> None:
    """Run `call` before each stage of a run begins. If `call` raises an error, the run ends."""
    set_stage = state.set_stage

    def set_stage_after(stage: StateStage) -> None:
        call(stage)
        set_stage(stage)

    state.set_stage = set_stage_after


def limit_to(state: Any, hosts: Sequence[Host]) -> None:
    """Limit the run to these hosts, whatever --limit says."""
    state.limit_hosts = list(hosts)


def look_only(state: Any) -> None:
    """Make the run look for changes, whatever -y says, and fail if one host fails, whatever --fail-percent says."""
    state.check_for_changes, state.config.FAIL_PERCENT = True, 0
    state.should_raise_failed_hosts = None


def when_hosts_fail(state: Any, error_of: Callable[[Any], Exception]) -> None:
    """If a run ends because hosts have failed, make it end with the error `error_of(state)`."""
    fail = state.fail_hosts

    def fail_hosts(*arguments: Any, **named: Any) -> None:
        try:
            fail(*arguments, **named)
        except PyinfraError as error:
            raise error_of(state) from error

    state.fail_hosts = fail_hosts


def hosts_of(state: State) -> list[Host]:
    """The hosts of this run: those of the inventory that --limit does not leave out."""
    return [host for host in state.inventory if state.is_host_in_limit(host)]
