"""After a start of tailscaled, a run waits until the node can be used. The real command runs here, with a fake
`tailscale` that prints one state after the other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.tailscale import HEARD

#: A script that prints the first line of `states`, and removes it unless it is the last one.
TELLS = """#!/bin/sh
read -r state online < "$0.states"
if [ "$(wc -l < "$0.states")" -gt 1 ]; then sed -i 1d "$0.states"; fi
echo "$state" >> "$0.told"
printf '{\\n  "BackendState": "%s",\\n  "Self": {\\n    "Online": %s\\n  }\\n}\\n' "$state" "$online"
"""


@pytest.mark.parametrize(
    ("states", "told"),
    [
        # "Online" is not enough: until it has reached a relay, the node is "Starting".
        (["NoState false", "Starting true", "Running true", "NeverAsked true"], 3),
        (["Running false", "Running true", "NeverAsked true"], 2),
        # The host has not joined, so the command does not wait. The next operation joins it.
        (["NoState false", "NeedsLogin false", "NeverAsked true"], 2),
    ],
)
def test_a_start_is_waited_for(states: list[str], told: int, tmp_path: Path) -> None:
    program = tmp_path / "tailscale"
    program.write_text(TELLS)
    program.chmod(0o700)
    (tmp_path / "tailscale.states").write_text("\n".join(states) + "\n")
    quick = HEARD.replace("sleep 0.5", "sleep 0")
    subprocess.run(["sh", "-c", quick], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True, timeout=30)
    assert len((tmp_path / "tailscale.told").read_text().split()) == told
