"""A deployed house with a backup of it, for tests that lose its hosts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.conftest import TestLab
from tests.lab.held import inside
from tests.lab.inventories import write_inventory

#: Where OpenClaw keeps conversations.
TRANSCRIPTS = "/var/lib/openclaw/state/agents/main/agent/openclaw-agent.sqlite"


def refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    """Check that a run was refused with these words, before it has changed anything."""
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1 and words in said and "nothing was changed" in said, said[-3000:]
    assert "Traceback" not in said, said[-3000:]


@dataclass
class Backed:
    """A lab's house whose settings have a key for backups. `took`: step -> seconds."""

    lab: TestLab
    folder: Path
    groups: dict[str, list[str]]
    settings: dict[str, Any] = field(default_factory=dict)
    own: dict[str, dict[str, Any]] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> Path:
        return self.folder / "private.key"

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    def prepare(self) -> None:
        """Make the pair of keys, and the folder for backups."""
        self.backups.mkdir()
        subprocess.run(["age-keygen", "--output", str(self.key)], check=True, capture_output=True)
        said = subprocess.run(["age-keygen", "-y", str(self.key)], check=True, capture_output=True, text=True)
        self.settings["backup_recipients"] = [said.stdout.strip()]

    @property
    def inventory(self) -> str:
        return write_inventory(self.folder, self.groups, self.settings, self.own)

    def playbook(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.lab.run(".venv/bin/pyinfra", "-y", *arguments, self.inventory, f"playbooks/{name}.py")

    def restore(self, *arguments: str, source: Path | None = None) -> subprocess.CompletedProcess[str]:
        data = [f"from={source or self.backups}"]
        if not any(each.startswith("identity=") for each in arguments):
            data.append(f"identity={self.key}")
        return self.playbook("restore", *(word for each in data for word in ("--data", each)), *arguments)

    def timed(self, step: str, done: subprocess.CompletedProcess[str], begun: float) -> None:
        self.took[step] = time.monotonic() - begun
        assert done.returncode == 0, f"{step}: {done.stdout[-2000:]}{done.stderr[-6000:]}"

    def backup(self) -> Path:
        begun = time.monotonic()
        self.timed("backup", self.playbook("backup", "--data", f"to={self.backups}"), begun)
        return max(each for each in self.backups.iterdir() if not each.name.startswith("."))

    def lose(self, *hosts: str) -> None:
        """Each of these hosts gets an empty disk."""
        for host in hosts:
            done = self.lab.lab("reinstall", host)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    def back(self, *arguments: str) -> None:
        """Restore, then deploy. The time until a message is answered counts from the beginning of the restore."""
        begun = time.monotonic()
        self.timed("restore", self.restore(*arguments), begun)
        deployed = time.monotonic()
        self.timed("deploy", self.lab.pyinfra(inventory=self.inventory), deployed)
        self.message()
        self.took["to the first message"] = time.monotonic() - begun

    def message(self) -> None:
        done = self.playbook("chat", "--data", "message=Hello")
        assert done.returncode == 0 and "answer:" in done.stderr, done.stderr[-3000:]

    def verify(self) -> None:
        command = [sys.executable, "-m", "pytest", "tests/verify", "--inventory", self.inventory]
        done = self.lab.run(*command, "--reports", str(self.folder / "reports"))
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]

    def changes(self) -> set[str]:
        """The operations of a deployment that change something."""
        return {each["name"] for each in self.lab.deploy(inventory=self.inventory)["operations"] if each["success"]}

    def nodes(self, coordinator: str) -> dict[str, tuple[int, str]]:
        """Name in the VPN -> number of the node and its key, as the control server has them."""
        found = json.loads(inside(self.lab, coordinator, "headscale nodes list -o json"))
        return {each["given_name"]: (each["id"], each["node_key"]) for each in found}

    def events(self, gateway: str) -> int:
        """How much OpenClaw has kept of conversations. The gateway needs the package sqlite3."""
        return int(
            inside(self.lab, gateway, f"sqlite3 -readonly {TRANSCRIPTS} 'SELECT count(*) FROM transcript_events'")
        )
