"""Many clients from one: each connects for real, to the same sshd, which answers what that host said when it was asked.

Called by the inventories that bench/growth.py writes.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyinfra.api import Host, StringCommand
from pyinfra.connectors.ssh import SSHConnector

from operations.asked import all_wanted
from tasks.drift import settings

#: What Together makes up for each question.
MARKER = re.compile(r"end [0-9a-f]{16}\b")
#: In a host's stamp.
SETTINGS = re.compile(r'(?<="settings": ")[0-9a-f]{12}')
#: What is sent and came back, and in how many seconds.
Exchange = tuple[str, list[str], float]


def record(name: str, file: str) -> None:
    """Keep what the host of that name is sent and says."""
    exchanges: list[Exchange] = []

    def kept(run: Callable[..., Any], connector: SSHConnector, command: StringCommand | str, **more: Any) -> Any:
        begun = time.monotonic()
        good, output = run(connector, command, **more)
        exchanges.append((_text(command), output.stdout_lines, time.monotonic() - begun))
        Path(file).write_text(json.dumps(exchanges), encoding="utf-8")
        return good, output

    _instead({name}, kept)


def replay(clients: dict[str, dict[str, str]], recorded: str, file: str) -> None:
    """Have hosts say in their turn what `recorded` said, under their own names and addresses, and take as long.

    `clients`: name -> what stands for what in its answers.
    """
    exchanges: list[Exchange] = json.loads(Path(file).read_text(encoding="utf-8"))
    turns = dict.fromkeys(clients, 0)

    def said(run: Callable[..., Any], connector: SSHConnector, command: StringCommand | str, **more: Any) -> Any:
        name, sent = connector.host.name, _text(command)
        before, lines, seconds = exchanges[min(turns[name], len(exchanges) - 1)]
        turns[name] += 1
        if MARKER.sub("", sent).replace(name, recorded) != MARKER.sub("", before):
            raise ValueError(f"{name} is asked something else than {recorded} was:\n{sent}\n---\n{before}")
        text = "\n".join(lines)
        for old, new in {recorded: name, **clients[name]}.items():
            text = re.sub(rf"\b{re.escape(old)}\b", new, text)
        text = _as_wanted(connector.host, text)
        if marker := MARKER.search(sent):
            text = MARKER.sub(marker[0], text)
        return run(connector, StringCommand(f"sleep {seconds:.3f}; cat"), **{**more, "_stdin": text})

    _instead(set(clients), said)


def _text(command: StringCommand | str) -> str:
    return command if isinstance(command, str) else command.get_raw_value()


def _as_wanted(host: Host, text: str) -> str:
    """The answer of a host that has this run's files, which name it, its stamp and its time: what is measured is a run
    that has nothing to do."""
    for each in (file for component in all_wanted(host) for file in component.files):
        digest, path = hashlib.sha256(each.content.encode()).hexdigest(), re.escape(each.path)
        text = re.sub(rf"^sha256 \S+(?=  {path}$)", f"sha256 {digest}", text, flags=re.MULTILINE)
        text = re.sub(rf"^(path {path}\|.*\|)\d+$", rf"\g<1>{len(each.content.encode())}", text, flags=re.MULTILINE)
    text = re.sub(r"^(@@ clock(-end)?)\n.*", rf"\1\n{time.time()}", text, flags=re.MULTILINE)
    return SETTINGS.sub(settings(), text)


def _instead(names: set[str], run: Callable[..., Any]) -> None:
    own: Callable[..., Any] = SSHConnector.run_shell_command

    def carried_out(connector: SSHConnector, command: StringCommand | str, *flags: Any, **more: Any) -> Any:
        if connector.host.name not in names:
            return own(connector, command, *flags, **more)
        return run(own, connector, command, **more)

    patched: Any = SSHConnector
    patched.run_shell_command = carried_out
