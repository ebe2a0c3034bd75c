"""Checks the state of a deployed house only with pyinfra's own operations, as pyinfra's documentation shows them.

Run: BENCH_WANTED=FILE pyinfra --config none -y inventory.py bench/builtin.py
FILE is the output of bench/wanted.py. The run must change nothing. It ends when a host is not as wanted.
"""

from __future__ import annotations

import json
import os
from io import StringIO
from pathlib import Path

from pyinfra import host
from pyinfra.api.exceptions import PyinfraError
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, server, systemd

wanted = json.loads(Path(os.environ["BENCH_WANTED"]).read_text(encoding="utf-8"))[host.name]

apt.packages(name="Packages", packages=wanted["packages"])
for each in wanted["accounts"]:
    server.user(
        name=f"Account {each['name']}",
        user=each["name"],
        home=each["home"],
        shell="/usr/sbin/nologin",
        group=each["name"],
        system=True,
        ensure_home=False,
    )
for each in wanted["directories"]:
    files.directory(
        name=f"Directory {each['path']}", path=each["path"], user=each["owner"], group=each["group"], mode=each["mode"]
    )
for each in wanted["files"]:
    files.put(
        name=f"File {each['path']}",
        src=StringIO(each["content"]),
        dest=each["path"],
        user=each["owner"],
        group=each["group"],
        mode=each["mode"],
    )
for each in wanted["programs"]:
    files.put(name=f"Program {each['path']}", src=each["local"], dest=each["path"], mode=each["mode"])
for each in wanted["links"]:
    files.link(name=f"Link {each['path']}", path=each["path"], target=each["target"])
for each in wanted["secrets"]:
    files.file(
        name=f"Secret {each['path']}", path=each["path"], user=each["owner"], group=each["group"], mode=each["mode"]
    )
for each in wanted["blocks"]:
    files.block(
        name=f"Block of {each['path']}",
        path=each["path"],
        content=each["lines"],
        marker="{mark}",
        begin=each["begin"],
        end=each["end"],
    )
for each in wanted["units"]:
    systemd.service(
        name=f"Unit {each['name']}",
        service=each["name"],
        running=True,
        # A unit that Podman generates cannot be enabled.
        enabled=True if each["enabled"] else None,
        user_mode=bool(each["account"]),
        machine=f"{each['account']}@" if each["account"] else None,
    )
for each in wanted["stopped"]:
    systemd.service(name=f"Unit {each}", service=each, running=False, enabled=False)
for each in wanted["checks"]:
    if host.get_fact(Command, f"{each} >/dev/null 2>&1 && echo good || echo bad") != "good":
        raise PyinfraError(f"{host.name} is not as wanted: {each}")
