"""How bench computes its results from measurements, and that docs/speed.md has the measured values."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from pathlib import Path

import pytest

from bench.__main__ import PARTS
from bench.delay import forwarders
from bench.measure import BenchError, Figure, Row, markdown, nothing_changed, ratio, rows_of, side_by_side
from bench.message import Answers, answered, first_answers

ROOT = Path(__file__).parent.parent.parent


def test_a_ratio_is_one_of_medians() -> None:
    slow, fast = Figure("slow", "s", (9.0, 1.0, 4.0)), Figure("fast", "s", (2.0, 2.0, 50.0))
    row = ratio("slow against fast", slow, fast, 2)
    assert (row.value, row.met, row.measured, row.wanted) == (2.0, True, "2x", "at most 2x")
    assert not ratio("slow against fast", slow, fast, 2.5, at_least=True).met
    assert str(slow) == "slow 4 s (1 to 9)" and str(Figure("home", "", (1.0,))) == "home 1"
    assert str(Figure("prompt", "tokens", (2290.0, 2288.0))) == "prompt 2289 tokens (2288 to 2290)"


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
    # The line is crossed five times: three times for TCP's handshake, once by the words, and once by the answer.
    assert taken >= 5 * 0.02


#: From Ollama 0.32.15's journal.
LOGGED = """\
slot   operator(): id  0 | task 4 | new prompt, n_ctx_slot = 8192, n_keep = 4, task.n_tokens = 2348
slot   operator(): id  0 | task 4 | cached n_tokens = 2136, memory_seq_rm [2136, end)
slot print_timing: id  0 | task 4 | prompt eval time =    1380.61 ms /   212 tokens (    6.51 ms per token)
[GIN] 2026/11/27 - 06:49:42 | 200 |      70.075µs |       127.0.0.1 | GET      "/api/ps"
slot print_timing: id  0 | task 4 |        eval time =    2604.02 ms /    78 tokens (   33.82 ms per token)
[GIN] 2026/11/27 - 06:49:48 | 200 |  1m3.999113793s |       127.0.0.1 | POST     "/api/chat"
"""


def test_what_ollama_says_of_a_message() -> None:
    for written, seconds in (("1m3.999113793s", 63.999113793), ("523.5ms", 0.5235), ("70.5µs", 70.5e-6)):
        found = answered(LOGGED.replace("1m3.999113793s", written))
        assert found is not None
        assert found[0] == pytest.approx(seconds) and found[1:] == (2348, 212)
    assert answered(LOGGED.rpartition("[GIN]")[0]) is None and answered("") is None
    with pytest.raises(BenchError, match="other requests"):
        answered(LOGGED + LOGGED)


def test_first_answers_are_set_against_second_ones() -> None:
    row = first_answers("a reboot", [Answers(30.0, 5.0, 4.0), Answers(31.0, 6.0, 4.0), Answers(32.0, 4.0, 2.0)])
    assert (row.value, row.met) == (1.25, True)
    assert [each.values for each in row.figures] == [(5.0, 6.0, 4.0), (4.0, 4.0, 2.0), (30.0, 31.0, 32.0)]


def test_the_page_names_every_part() -> None:
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in PARTS)


def test_the_page_says_what_was_measured() -> None:
    results = (ROOT / "bench" / "results.json").read_text(encoding="utf-8")
    rows: list[Row] = rows_of(results)
    assert rows and markdown(rows) in (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
