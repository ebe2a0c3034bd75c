"""All places in the code from which a run can end with a message, and the messages that tests have produced there.

A place is a call that makes an error for people, or that logs one. While the unit tests run, each message is recorded
with the line of code from which it came.
"""

from __future__ import annotations

import ast
import builtins
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from paramiko import SSHException
from pyinfra.api.exceptions import PyinfraError

from artifacts.errors import ArtifactError
from operations.engine.answers import NotYet
from operations.engine.run_on_host import RemoteError
from operations.engine.upload import UploadError
from plan.engine.errors import SettingError

ROOT = Path(__file__).parents[2]
FOLDERS = ("plan", "facts", "operations", "tasks", "artifacts")
#: A deployment consists of these files, and of all modules that they import.
STARTED = ("deploy.py", "config.py", "artifacts/__main__.py")
#: The errors with messages for people. Python's own errors are caught, and an error of one of these types tells them.
BASES: tuple[type[Exception], ...] = (
    SettingError,
    PyinfraError,
    SSHException,
    NotYet,
    RemoteError,
    UploadError,
    ArtifactError,
)
#: The number of frames between an error and its place, at most: a function may make an error for several places.
DEPTH = 5
#: The number of messages that are recorded for one line of code, and the number of characters of a message. Generated
#: cases produce thousands.
MOST, LONGEST = 200, 1000

#: (file, line) -> the messages that came from there.
HEARD: dict[tuple[str, int], dict[str, None]] = {}


@dataclass(frozen=True)
class Place:
    """A call in a file, from its first line to its last. `words` are the constant words of its message."""

    file: str
    first: int
    last: int
    words: str

    def __str__(self) -> str:
        return f"{self.file}:{self.first}: {self.words[:90]!r}"

    def heard(self) -> list[str]:
        return [said for at in range(self.first, self.last + 1) for said in HEARD.get((self.file, at), ())]


def listen() -> None:
    """Record all messages from now on."""
    for base in BASES:
        _keep_of(base)

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                _keep(_name(record.pathname), record.lineno, record.getMessage())

    logging.getLogger("pyinfra").addHandler(Ear())


def leave(folder: Path) -> None:
    """Write the messages that this process has recorded into a folder, so that another process can read them."""
    entries = [[file, line, list(said)] for (file, line), said in HEARD.items() if file]
    (folder / f"{os.getpid()}.json").write_text(json.dumps(entries), encoding="utf-8")


def read(folder: Path) -> None:
    """Add the messages that other processes have recorded."""
    for file in folder.glob("*.json"):
        for name, line, said in json.loads(file.read_text(encoding="utf-8")):
            HEARD.setdefault((name, line), {}).update(dict.fromkeys(said))


def _keep_of(base: Any) -> None:
    first: Callable[..., None] = base.__init__

    def init(self: Exception, *given: Any, **named: Any) -> None:
        first(self, *given, **named)
        # Not the error's own __str__: that may need fields that a derived class has not set yet.
        frame, text = sys._getframe(1), Exception.__str__(self)
        for _ in range(DEPTH):
            _keep(_name(frame.f_code.co_filename), frame.f_lineno, text)
            if frame.f_back is None:
                break
            frame = frame.f_back

    base.__init__ = init


@cache
def _name(path: str) -> str:
    """A file's path in the repository, "" for a file that is not in it."""
    name = path.removeprefix(f"{ROOT}/")
    return name if name.startswith(FOLDERS) else ""


def _keep(file: str, line: int, text: str) -> None:
    kept = HEARD.setdefault((file, line), {})
    if file and len(kept) < MOST:
        kept[text[:LONGEST]] = None


@cache
def files() -> tuple[Path, ...]:
    """The files of a deployment. Other playbooks are left out: they have other messages."""
    found: dict[Path, None] = {}
    open_ones = [ROOT / name for name in STARTED]
    while open_ones:
        file = open_ones.pop()
        if file in found:
            continue
        found[file] = None
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                open_ones += _modules(node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
            elif isinstance(node, ast.Import):
                open_ones += _modules(*(alias.name for alias in node.names))
    return tuple(sorted(found))


def _modules(*names: str) -> Iterator[Path]:
    for name in names:
        file = ROOT / f"{name.replace('.', '/')}.py"
        if name.startswith(FOLDERS) and file.is_file():
            yield file


@cache
def places() -> tuple[Place, ...]:
    """All places in the code of a deployment, in the order of files and lines."""
    return tuple(place for file in files() for place in _of_file(file))


def _of_file(file: Path) -> Iterator[Place]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    # Functions inside other functions that make an error from their arguments. Their places are the calls of them.
    makers: dict[str, ast.FunctionDef] = {}
    for outer in ast.walk(tree):
        if isinstance(outer, ast.FunctionDef):
            for inner in outer.body:
                if isinstance(inner, ast.FunctionDef) and inner.args.args and any(map(_is_error, ast.walk(inner))):
                    makers[inner.name] = inner
    inside = {id(each) for maker in makers.values() for each in ast.walk(maker)}
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or id(call) in inside or file == ROOT / "plan/engine/errors.py":
            continue
        if any(_is_error(each) for argument in call.args for each in ast.walk(argument)):
            # This passes on an error that it has received, so it is no place.
            continue
        name = _called(call)
        if _is_error(call) or name in makers or name == "logger.error" or _is_own_init(call):
            words = " ".join(_words(call))
            if "SettingError" in name or name in makers or _says_something(words):
                yield Place(str(file.relative_to(ROOT)), call.lineno, call.end_lineno or call.lineno, words)


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func)


def _is_error(node: ast.AST) -> bool:
    """Whether this makes an error for people."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    name = node.func.id
    return not hasattr(builtins, name) and (
        name.endswith("Error") or name in ("ConnectionLost", "NotRoot", "NotYet", "SSHException", "WrongInput")
    )


def _is_own_init(call: ast.Call) -> bool:
    return _called(call) == "super().__init__" and bool(list(_words(call)))


def _words(call: ast.Call) -> Iterator[str]:
    for each in ast.walk(call):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def _says_something(words: str) -> bool:
    """Whether a message has constant words. If it has none, it only passes on another message."""
    return len(re.findall(r"[a-z]{2,}", words.replace("(nothing was changed)", ""))) > 1
