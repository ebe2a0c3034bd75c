"""What bench makes of figures, and that docs/speed.md says what was measured."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from pathlib import Path

import pytest

from bench.delay import forwarders
from bench.measure import BenchError, Figure, Row, markdown, nothing_changed, ratio, rows_of, side_by_side

ROOT = Path(__file__).parent.parent.parent


def test_a_ratio_is_one_of_medians() -> None:
    slow, fast = Figure("slow", "s", (9.0, 1.0, 4.0)), Figure("fast", "s", (2.0, 2.0, 50.0))
    row = ratio("slow against fast", slow, fast, 2)
    assert (row.value, row.met, row.measured, row.wanted) == (2.0, True, "2x", "at most 2x")
    assert not ratio("slow against fast", slow, fast, 2.5, at_least=True).met
    assert str(slow) == "slow 4 s (1 to 9)" and str(Figure("home", "", (1.0,))) == "home 1"


def test_sides_are_measured_in_turns() -> None:
    turns: list[str] = []

    def side(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    found = side_by_side(2, {"a": lambda: side("a"), "b": lambda: side("b")})
    assert turns == ["a", "b", "a", "b"]
    assert found["b"].values == (2.0, 4.0)


def test_a_run_that_changed_something_is_not_measured() -> None:
    nothing_changed("    Grand total      44      -         -       44")
    with pytest.raises(BenchError, match="changed something"):
        nothing_changed("    Grand total      44      1         -       43")
    with pytest.raises(BenchError, match="changed something"):
        nothing_changed("")


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(100):
            self.request.sendall(data)


def test_a_distance_is_one_both_ways_and_for_the_first_words() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with forwarders({"host": "127.0.0.1"}, 0.02, server.server_address[1]) as ports:
            begun = time.monotonic()
            with socket.create_connection(("127.0.0.1", ports["host"])) as line:
                line.sendall(b"to and fro")
                assert line.recv(100) == b"to and fro"
                taken = time.monotonic() - begun
        server.shutdown()
    # Three times over the line for TCP's own hello, once there and once back.
    assert taken >= 5 * 0.02


def test_the_page_says_what_was_measured() -> None:
    results = (ROOT / "bench" / "results.json").read_text(encoding="utf-8")
    rows: list[Row] = rows_of(results)
    assert rows and markdown(rows) in (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
