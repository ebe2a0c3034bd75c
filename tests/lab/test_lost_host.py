"""A host loses its power in the middle of a run. The run ends by itself and names the host. The next run finishes."""

from __future__ import annotations

import re
import sys

from tasks.engine.connection import PAUSES
from tests.lab.conftest import TestLab
from tests.lab.traces import left_over


def test_a_run_ends_by_itself_when_its_host_loses_its_power(single: TestLab) -> None:
    single.deploy()
    single.ssh("laptop", "apt-get -qq purge curl >/dev/null")
    done = single.run(sys.executable, "-m", "lab.interrupt", "1", "off", "-y", single.inventory, "deploy.py")
    assert "[interrupted] off laptop: Base | Packages, accounts, names" in done.stderr, done.stderr[-3000:]
    assert done.returncode == 1, done.stderr[-3000:]
    said = " ".join(done.stderr.split())
    assert (
        f"was lost during 'Base | Packages, accounts, names' (no answer for {PAUSES} s). Next: see that laptop" in said
    )
    assert len(re.findall("the connection over SSH was lost", said)) == 1 and "Traceback" not in said
    # The run does not hold the other host any more.
    up = single.lab("up")
    assert up.returncode == 0, up.stdout[-3000:] + up.stderr[-3000:]
    single.deploy()
    assert single.ssh("laptop", "command -v curl") == "/usr/bin/curl"
    for host in single.hosts:
        assert left_over(single, host) == []
