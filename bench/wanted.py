"""Plans the deployment, writes the wanted state of each host into a file, and changes nothing.

Run: BENCH_WANTED=FILE pyinfra inventory.py bench/wanted.py
"""

import os
from pathlib import Path

from pyinfra import local

from bench.state import planned
from tasks.engine.hosts import this

local.include("deploy.py")
planned(this(), Path(os.environ["BENCH_WANTED"]))
