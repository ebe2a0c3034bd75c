"""Many clients from one: each answers what that host said when it was asked, and takes as long, here or over SSH.

Called by the inventories that bench/growth.py writes.
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

#: What Together makes up for each question.
MARKER = re.compile(r"end [0-9a-f]{16}\b")
#: In a host's profile.
CLOCK = re.compile(r"^(@@ clock(?:-end)?)\n.*", re.MULTILINE)
#: In a host's profile: what no two machines have in common.
OWN = re.compile(r"^(@@ (?:machine-id|boot|host-keys)\n(?:\S+ )?)(?=\S)", re.MULTILINE)
#: In a host's stamp.
SETTINGS = re.compile(r'(?<="settings": ")[0-9a-f]{12}')
#: What is sent and came back, and in how many seconds.
Exchange = tuple[str, list[str], float]
Run = Callable[..., Any]


def record(name: str, file: str) -> None:
    """Keep how long it takes to connect to the host of that name, and what it is sent and says."""
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
    """Have hosts say in their turn what `recorded` said, under their own names and addresses, and take as long.

    `clients`: name -> what stands for what in its answers. `answers`: a file that the first run writes, and later ones
    read: to make them up is no part of what is measured. `over_ssh`: each connects, and sends its answer.
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
    """The answer of a host that has this run's files, which name it, and this run's stamp: what is measured is a run
    that has nothing to do."""
    for old, new in instead.items():
        text = re.sub(rf"\b{re.escape(old)}\b", new, text)
    for each in (file for component in all_wanted(host) for file in component.files):
        digest, path = hashlib.sha256(each.content.encode()).hexdigest(), re.escape(each.path)
        text = re.sub(rf"^sha256 \S+(?=  {path}$)", f"sha256 {digest}", text, flags=re.MULTILINE)
        text = re.sub(rf"^(path {path}\|.*\|)\d+$", rf"\g<1>{len(each.content.encode())}", text, flags=re.MULTILINE)
    text = OWN.sub(rf"\g<1>{host.name}-", text)
    return SETTINGS.sub(settings(), text)


def _instead(names: set[str], **methods: Callable[..., Any]) -> None:
    """Have hosts of these names do something else for a method of SSHConnector, with its own at hand."""

    def replaced(own: Run, other: Run) -> Run:
        def carried_out(connector: SSHConnector, *arguments: Any, **more: Any) -> Any:
            if connector.host.name not in names:
                return own(connector, *arguments, **more)
            return other(own, connector, *arguments, **more)

        return carried_out

    for method, other in methods.items():
        setattr(SSHConnector, method, replaced(getattr(SSHConnector, method), other))
