"""The measured figures, the rows of the table, and the lab for the measurements."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.state import current_lab

REPO = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results.json"
PYINFRA = str(Path(sys.executable).parent / "pyinfra")
#: Seconds after which a run counts as one that hangs.
PATIENCE = 1800

#: Prints each time to standard error when it was measured. Standard output gets only the table.
told = Console(stderr=True, highlight=False)


class BenchError(RuntimeError):
    """The run that was to be measured failed, or did something else than expected."""


@dataclass(frozen=True)
class Figure:
    """One thing that was measured several times, in `unit`."""

    what: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        spread = "" if len(self.values) == 1 else f" ({_digits(min(self.values))} to {_digits(max(self.values))})"
        return f"{self.what} {_digits(self.median)} {self.unit}".rstrip() + spread


def _digits(value: float) -> str:
    """The number with three digits, or with all digits before the decimal point."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


@dataclass(frozen=True)
class Row:
    """One row of the table. `value` must be at most `target`, or at least `target` with `at_least`. `figures`: the
    measurements from which the value was calculated."""

    what: str
    value: float
    unit: str
    target: float
    figures: tuple[Figure, ...]
    at_least: bool = False

    @property
    def measured(self) -> str:
        return f"{self.value:.3g}{self.unit}"

    @property
    def wanted(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.target:g}{self.unit}"

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.at_least else self.value <= self.target


def ratio(what: str, over: Figure, under: Figure, target: float, at_least: bool = False) -> Row:
    """A row with the ratio of the medians of two figures. Both must be measured in the same session."""
    return Row(what, over.median / under.median, "x", target, (over, under), at_least)


def side_by_side(runs: int, sides: Mapping[str, Callable[[], float]], unit: str = "s") -> dict[str, Figure]:
    """Measures each side `runs` times. The sides take turns, so that other work of the machine affects all of them in
    the same way."""
    values: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(runs):
        for name, measure in sides.items():
            values[name].append(measure())
            told.print(f"{number + 1}/{runs} {name}: {values[name][-1]:.3f} {unit}")
    return {name: Figure(name, unit, tuple(found)) for name, found in values.items()}


@dataclass(frozen=True)
class Bench:
    """A separate lab, with another name and network than those of the demo and the tests."""

    topology: str = "single"
    inventory: str = "inventory.py"
    lab: str = "bench"
    net: str = "79"

    @property
    def env(self) -> dict[str, str]:
        env = {**os.environ, "LAB": self.lab, "LAB_NET": self.net, "TOPOLOGY": self.topology}
        # Python may keep compiled modules, as in a normal run.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        return env

    def run(self, *command: str, input: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the lab's environment. If it fails, raises BenchError with its output."""
        done = subprocess.run(
            command,
            cwd=REPO,
            env={**self.env, **env},
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr[-4000:]}")
        return done

    def timed(self, *command: str, **env: str) -> tuple[float, subprocess.CompletedProcess[str]]:
        """Runs a command. Returns its seconds from start to end, and the finished process."""
        begun = time.monotonic()
        done = self.run(*command, **env)
        return time.monotonic() - begun, done

    def ssh(self, host: str, command: str) -> str:
        return self.run("lab/ssh", host, command).stdout

    def pyinfra(self, *arguments: str, **env: str) -> tuple[float, subprocess.CompletedProcess[str]]:
        return self.timed(PYINFRA, "-y", *arguments, **env)

    def unchanging(self, *arguments: str, **env: str) -> float:
        """The seconds of a run that changes nothing. Raises BenchError when the run changes something."""
        seconds, done = self.pyinfra(*arguments, **env)
        nothing_changed(done.stderr)
        return seconds

    def peak_mib(self, *arguments: str) -> float:
        """The largest resident memory of a run of pyinfra, in MiB."""
        command = [PYINFRA, "-y", *arguments]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, cwd=REPO, env=self.env, stdin=quiet, stdout=quiet, stderr=quiet) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise BenchError(f"{' '.join(command)} ended with {process.returncode}")
        return usage.ru_maxrss / 1024

    def address(self, host: str) -> str:
        """A host's IPv4 address on the lab's LAN."""
        return str(current_lab(self.lab).place(host).v4)

    def up(self) -> None:
        told.print(f"lab {self.lab} comes up")
        self.run(sys.executable, "-m", "lab", "up")

    def down(self) -> None:
        self.run(sys.executable, "-m", "lab", "down")


def nothing_changed(said: str) -> None:
    """Raises BenchError when pyinfra's summary of a run counts a change."""
    total = re.search(r"Grand total\s+\d+\s+(\S+)", said)
    if total is None or total[1] != "-":
        raise BenchError(f"a run that was to change nothing changed something:\n{said[-3000:]}")


def write(rows: Sequence[Row], runs: int) -> None:
    """Writes the rows into results.json. Rows of other parts, from earlier measurements, stay there."""
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout.strip()
    machine = f"{os.cpu_count()} CPUs, {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    for row in rows:
        before[row.what] = {**asdict(row), "met": row.met, "runs": runs, "commit": commit, "machine": machine}
    RESULTS.write_text(json.dumps(before, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def show(rows: Sequence[Row]) -> None:
    """Prints the table to standard output."""
    table = Table("what", "measured", "target", "", "from (median of runs, spread)")
    for row in rows:
        table.add_row(
            row.what, row.measured, row.wanted, "met" if row.met else "missed", "\n".join(map(str, row.figures))
        )
    Console(highlight=False).print(table)


def rows_of(results: str) -> list[Row]:
    """The rows in the text of results.json, in the order of their names."""
    found = []
    for raw in json.loads(results).values():
        figures = tuple(Figure(each["what"], each["unit"], tuple(each["values"])) for each in raw["figures"])
        found.append(Row(raw["what"], raw["value"], raw["unit"], raw["target"], figures, raw["at_least"]))
    return sorted(found, key=lambda row: row.what)


def markdown(rows: Sequence[Row]) -> str:
    """The table in the form of docs/speed.md."""
    lines = ["| what | measured | target | from (median of runs, spread) |", "| --- | --- | --- | --- |"]
    for row in rows:
        missed = "" if row.met else ", **missed**"
        lines.append(f"| {row.what} | {row.measured}{missed} | {row.wanted} | {'; '.join(map(str, row.figures))} |")
    return "\n".join(lines)
