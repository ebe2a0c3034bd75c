"""Makes many clients from one: each gives the answers that were recorded from that host, and takes as long for them.

The inventories that bench/growth.py writes call these functions.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyinfra.api import Host, StringCommand
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput, OutputLine

from operations.engine.answers import all_wanted
from tasks.drift import settings

#: The end line that facts/engine/ask_together.py makes anew for each command.
MARKER = re.compile(r"end [0-9a-f]{16}\b")
#: The clock in a host's profile.
CLOCK = re.compile(r"^(@@ clock(?:-end)?)\n.*", re.MULTILINE)
#: The parts of a host's profile that differ for each machine.
OWN = re.compile(r"^(@@ (?:machine-id|boot|host-keys)\n(?:\S+ )?)(?=\S)", re.MULTILINE)
#: The digest of the settings in a host's stamp.
SETTINGS = re.compile(r'(?<="settings": ")[0-9a-f]{12}')
#: A command, the lines of its answer, and the seconds that it took.
Exchange = tuple[str, list[str], float]
Run = Callable[..., Any]


def record(name: str, file: str) -> None:
    """Records into `file` how long connecting to the host `name` takes, and all its commands and answers."""
    found: dict[str, Any] = {"connect": 0.0, "exchanges": []}

    def connected(connect: Run, connector: SSHConnector) -> None:
        begun = time.monotonic()
        connect(connector)
        found["connect"] = time.monotonic() - begun

    def kept(run: Run, connector: SSHConnector, command: StringCommand | str, *flags: Any, **more: Any) -> Any:
        begun = time.monotonic()
        good, output = run(connector, command, *flags, **more)
        found["exchanges"].append((_text(command), output.stdout_lines, time.monotonic() - begun))
        Path(file).write_text(json.dumps(found), encoding="utf-8")
        return good, output

    _instead({name}, connect=connected, run_shell_command=kept)


def replay(clients: dict[str, dict[str, str]], recorded: str, file: str, answers: str, over_ssh: bool) -> None:
    """Has hosts give the answers of the host `recorded`, with their own names and addresses, and take as long for them.

    `clients`: name -> replacements in its answers. `answers`: a file with the finished answers. The first run writes it
    and later runs read it, so that making the answers is not measured. `over_ssh`: each host connects over SSH and
    sends its answer; otherwise this computer only waits as long.
    """
    found = json.loads(Path(file).read_text(encoding="utf-8"))
    exchanges: list[Exchange] = found["exchanges"]
    ready: dict[str, list[str]] = {name: [] for name in clients}
    if Path(answers).exists():
        ready = json.loads(Path(answers).read_text(encoding="utf-8"))
    else:
        atexit.register(lambda: Path(answers).write_text(json.dumps(ready), encoding="utf-8"))
    turns = dict.fromkeys(clients, 0)

    def connected(connect: Run, connector: SSHConnector) -> None:
        if over_ssh:
            connect(connector)
        else:
            time.sleep(found["connect"])

    def said(run: Run, connector: SSHConnector, command: StringCommand | str, *flags: Any, **more: Any) -> Any:
        name, sent, turn = connector.host.name, _text(command), turns[connector.host.name]
        turns[name] += 1
        _, lines, seconds = exchanges[min(turn, len(exchanges) - 1)]
        if turn == len(ready[name]):
            _same(sent, name, exchanges[turn][0] if turn < len(exchanges) else "nothing", recorded)
            ready[name].append(_as_wanted(connector.host, "\n".join(lines), {recorded: name, **clients[name]}))
        text = CLOCK.sub(rf"\1\n{time.time()}", ready[name][turn])
        if marker := MARKER.search(sent):
            text = MARKER.sub(marker[0], text)
        if over_ssh:
            answer = StringCommand(f"sleep {seconds:.3f}; cat")
            return run(connector, answer, *flags, **{**more, "_stdin": text})
        time.sleep(seconds)
        return True, CommandOutput([OutputLine("stdout", line) for line in text.splitlines()])

    _instead(set(clients), connect=connected, run_shell_command=said)


def _same(sent: str, name: str, before: str, recorded: str) -> None:
    if MARKER.sub("", sent).replace(name, recorded) != MARKER.sub("", before):
        raise ValueError(f"{name} is asked something else than {recorded} was:\n{sent}\n---\n{before}")


def _text(command: StringCommand | str) -> str:
    return command if isinstance(command, str) else command.get_raw_value()


def _as_wanted(host: Host, text: str, instead: dict[str, str]) -> str:
    """The recorded answer, changed so that the host has this run's files and stamp. Then the run has nothing to change,
    and such a run is what we measure."""
    for old, new in instead.items():
        text = re.sub(rf"\b{re.escape(old)}\b", new, text)
    for each in (file for component in all_wanted(host) for file in component.files):
        digest, path = hashlib.sha256(each.content.encode()).hexdigest(), re.escape(each.path)
        text = re.sub(rf"^sha256 \S+(?=  {path}$)", f"sha256 {digest}", text, flags=re.MULTILINE)
        text = re.sub(rf"^(path {path}\|.*\|)\d+$", rf"\g<1>{len(each.content.encode())}", text, flags=re.MULTILINE)
    text = OWN.sub(rf"\g<1>{host.name}-", text)
    return SETTINGS.sub(settings(), text)


def _instead(names: set[str], **methods: Callable[..., Any]) -> None:
    """Replaces methods of SSHConnector for the hosts with these names. Each replacement gets the original method as its
    first argument."""

    def replaced(own: Run, other: Run) -> Run:
        def carried_out(connector: SSHConnector, *arguments: Any, **more: Any) -> Any:
            if connector.host.name not in names:
                return own(connector, *arguments, **more)
            return other(own, connector, *arguments, **more)

        return carried_out

    for method, other in methods.items():
        setattr(SSHConnector, method, replaced(getattr(SSHConnector, method), other))
