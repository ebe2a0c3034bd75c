"""Count the remote commands of a deployment, per host, and time it.

Run on a lab or a house that is up: python bench/commands.py inventory.py [RUNS]. The first run changes what there is to
change; the others show what a run costs that changes nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path


def measure(inventory: str) -> tuple[float, Counter[str], int]:
    """Seconds, remote commands by host, and operations that changed something, of one run."""
    pyinfra = str(Path(sys.executable).parent / "pyinfra")
    begun = time.monotonic()
    done = subprocess.run(
        [pyinfra, "-y", "--debug", inventory, "deploy.py"], capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - begun
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    commands = Counter(re.findall(r"Running command on (\S+):", done.stderr))
    total = re.search(r"Grand total\s+\d+\s+(\S+)", done.stderr)
    changes = 0 if total is None or total[1] == "-" else int(total[1])
    return seconds, commands, changes


def main() -> None:
    inventory = sys.argv[1] if len(sys.argv) > 1 else "inventory.py"
    for number in range(int(sys.argv[2]) if len(sys.argv) > 2 else 2):
        seconds, commands, changes = measure(inventory)
        hosts = ", ".join(f"{host} {count}" for host, count in sorted(commands.items()))
        print(f"run {number + 1}: {seconds:6.1f} s, {changes:3} changes, remote commands: {hosts}", flush=True)


if __name__ == "__main__":
    main()
