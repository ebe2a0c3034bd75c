"""Messages that a client sends one after another while something happens in its house."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from operations.openclaw.send_message import ask_script
from tests.lab.conftest import REPO, TestLab

URL = "https://gate.vpn.house.internal:18789/v1/chat/completions"


@dataclass
class Talk:
    """Messages of the laptop. `again`: those that had to be sent more than once. `gap`: the longest time in seconds
    from a message to its answer."""

    lab: TestLab
    sent: int = 0
    answered: int = 0
    again: int = 0
    gap: float = 0.0
    said: list[str] = field(default_factory=list)

    def message(self, patience: float = 180) -> None:
        """Send a message until it is answered, as a person would."""
        self.sent += 1
        begun, tries = time.monotonic(), 0
        while True:
            tries += 1
            if self._answered():
                break
            assert time.monotonic() - begun < patience, f"message {self.sent} got no answer: {self.said[-3:]}"
        self.answered += 1
        self.again += tries > 1
        self.gap = max(self.gap, time.monotonic() - begun)

    def _answered(self) -> bool:
        """Send a message once. It has a conversation of its own."""
        # The token may be another one by now.
        token = self.lab.ssh("gate", "cat /etc/openclaw/token")
        asked = {"model": "openclaw/default", "messages": [{"role": "user", "content": f"Say {self.sent}."}]}
        done = subprocess.run(
            ["lab/ssh", "laptop", ask_script(URL, f"agent:main:openai:{uuid.uuid4()}")],
            cwd=REPO,
            env=self.lab.env,
            input=f"{token}\n{json.dumps(asked)}",
            text=True,
            capture_output=True,
            check=False,
        )
        try:
            return bool(json.loads(done.stdout)["choices"][0]["message"]["content"])
        except (ValueError, KeyError, IndexError, TypeError):
            self.said.append((done.stdout + done.stderr)[-300:])
            time.sleep(1)
            return False

    def __str__(self) -> str:
        return (
            f"{self.sent} messages sent, {self.answered} answered, {self.again} of them sent again; "
            f"longest wait {self.gap:.0f} s"
        )


@contextmanager
def talking(lab: TestLab) -> Iterator[Talk]:
    """Send messages all the time, one after another. At the end each of them was answered."""
    talk, over = Talk(lab), threading.Event()
    failed: list[BaseException] = []

    def go_on() -> None:
        try:
            while not over.is_set():
                talk.message()
        except BaseException as error:
            failed.append(error)

    speaking = threading.Thread(target=go_on)
    speaking.start()
    try:
        yield talk
    finally:
        over.set()
        speaking.join()
    if failed:
        raise failed[0]
    assert talk.sent == talk.answered > 0
