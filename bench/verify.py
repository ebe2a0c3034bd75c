"""Measures the verification of a deployed house: its time, and the number of SSH connections to each host."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.measure import Bench, Figure, Row, side_by_side

#: Counts the logins in sshd's journal since a time of the host's clock.
KNOCKS = "journalctl -q -t sshd -t sshd-session --since @{} -g 'Accepted publickey' -o cat | wc -l"


def rows(bench: Bench, runs: int, work: Path) -> list[Row]:
    """Measures `make verify` of `single`, with its message to the model, and counts its SSH connections."""
    bench.pyinfra(bench.inventory, "deploy.py")
    hosts = ("home", "laptop")
    knocks: dict[str, list[float]] = {host: [] for host in hosts}

    def verified() -> float:
        # The benchmark's own connection is shared and older than this time, so it is not counted.
        begun = {host: bench.ssh(host, "sleep 1; date +%s").strip() for host in hosts}
        command = (sys.executable, "-m", "pytest", "-q", "tests/verify", f"--inventory={bench.inventory}")
        seconds, _ = bench.timed(*command)
        for host in hosts:
            knocks[host].append(int(bench.ssh(host, KNOCKS.format(begun[host]))))
        return seconds

    taken = side_by_side(runs, {"verification": verified})["verification"]
    return [
        Row("verification of single", taken.median, " s", 30, (taken,)),
        *(
            Row(f"SSH connections of a verification, {host}", max(found), "", 2, (Figure(host, "", tuple(found)),))
            for host, found in knocks.items()
        ),
    ]
