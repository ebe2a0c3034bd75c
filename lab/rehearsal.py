"""Restore a backup into virtual hosts, deploy, verify, send a message, and take everything down again.

playbooks/rehearse.py writes the plan and starts this program in its own place: `python -m lab.rehearsal FOLDER`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import lifecycle
from lab.state import REPOSITORY, LabError
from lab.topology import Lab
from plan.engine.errors import SettingError

#: The lab's name. Another rehearsal of this checkout takes what one that was cut off has left away.
NAME = "rehearsal"
PLAN = "plan.json"
#: A lab writes up to 4 GB, and its programs need 3 GB.
ROOMY_GB = 9
REPORTS = REPOSITORY / "reports" / NAME


def main(folder: Path) -> int:
    plan: dict[str, Any] = json.loads((folder / PLAN).read_text())
    # Also a signal comes as an exception, so that the lab is taken down.
    signal.signal(signal.SIGTERM, _end)
    steps: list[dict[str, Any]] = []
    try:
        good = _rehearse(plan, folder, steps)
    except (LabError, SettingError) as error:
        print(f"--> {error}", file=sys.stderr)
        good = False
    except KeyboardInterrupt:
        print("\n--> Ended; the virtual hosts are taken down", file=sys.stderr)
        good = False
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        shutil.rmtree(folder, ignore_errors=True)
        left = lifecycle.down(NAME)
    for line in left:
        print(f"left behind: {line}. Next: LAB={NAME} make down", file=sys.stderr)
    _report(plan, steps, good)
    return 0 if good and not left else 1


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def _rehearse(plan: dict[str, Any], folder: Path, steps: list[dict[str, Any]]) -> bool:
    pyinfra = str(Path(sys.executable).with_name("pyinfra"))
    inventory = str(folder / "house.py")
    data = ["--data", f"from={plan['backup']}", "--data", f"identity={plan['identity']}"]
    verify = [sys.executable, "-m", "pytest", "tests/verify", "--inventory", inventory, "--reports", str(REPORTS)]

    def up() -> bool:
        lifecycle.down(NAME)
        lifecycle.up(Lab(NAME, topology=plan["topology"], in_memory=_roomy()), any_net=True)
        return True

    def run(*command: str) -> Callable[[], bool]:
        environment = {**os.environ, "LAB": NAME, "LAB_PROFILE": "", "TOPOLOGY": plan["topology"]}
        return lambda: not subprocess.run(command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL).returncode

    for title, step in (
        ("virtual hosts", up),
        ("restore", run(pyinfra, "-y", *data, inventory, "playbooks/restore.py")),
        ("deployment", run(pyinfra, "-y", inventory, "deploy.py")),
        (
            "message",
            run(pyinfra, "-y", "--data", "message=What is the capital of France?", inventory, "playbooks/chat.py"),
        ),
        ("verification", run(*verify)),
    ):
        print(f"\n=== {title}", flush=True)
        begun = time.monotonic()
        good = step()
        steps.append({"step": title, "good": good, "seconds": round(time.monotonic() - begun, 1)})
        if not good:
            return False
    return True


def _roomy() -> bool:
    """Whether the hosts' files, with the house's keys in them, can be in memory."""
    found = re.search(r"^MemAvailable: *(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return found is not None and int(found[1]) > ROOMY_GB * 1024**2


def _report(plan: dict[str, Any], steps: list[dict[str, Any]], good: bool) -> None:
    print(f"\n=== Rehearsal of {plan['backup']}\n")
    for each in steps:
        print(f"    {'good  ' if each['good'] else 'FAILED'} {each['step']:14} {each['seconds']:7.1f} s")
    print("\n    Other than in the house:")
    for words in plan["told"]:
        print(f"    - {words}")
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = {"backup": plan["backup"], "made": plan["made"], "good": good, "steps": steps, "told": plan["told"]}
    (REPORTS / "rehearsal.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n    {'Good: the house can be restored from it' if good else 'Not good: see above'}; report: {REPORTS}\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
