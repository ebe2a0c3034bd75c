"""Measures a run that changes nothing, over a slow connection: 50 ms for each round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from bench.measure import Bench, Row, ratio, side_by_side
from lab.state import State

ROUND_TRIP = 0.050
ROLES = {"coordinator": "home", "gateway": "home", "model_hosts": "home", "clients": "laptop"}


def rows(bench: Bench, runs: int, work: Path) -> list[Row]:
    """The no-op run of `single` behind forwarders without delay, and behind forwarders with delay."""
    bench.pyinfra(bench.inventory, "deploy.py")
    addresses = {name: bench.address(name) for name in dict.fromkeys(ROLES.values())}
    with forwarders(addresses, 0) as near, forwarders(addresses, ROUND_TRIP / 2) as far:
        inventories = {"0 ms": _inventory(bench, work / "near", near), "50 ms": _inventory(bench, work / "far", far)}

        found = side_by_side(
            runs, {name: partial(bench.unchanging, inventory, "deploy.py") for name, inventory in inventories.items()}
        )
    return [ratio("no-op run at 50 ms round trip against 0 ms", found["50 ms"], found["0 ms"], 3)]


def _inventory(bench: Bench, folder: Path, ports: Mapping[str, int]) -> str:
    """Writes an inventory in which the lab's hosts are at ports of loopback, and their keys into a known_hosts file."""
    folder.mkdir()
    known = State.of(bench.lab).known_hosts.read_text(encoding="utf-8").splitlines()
    by_name = {line.split(",")[0]: line for line in known}
    (folder / "known_hosts").write_text(
        "".join(f"[127.0.0.1]:{port},{by_name[name]}\n" for name, port in ports.items()), encoding="utf-8"
    )
    place = f'ssh_hostname="127.0.0.1", ssh_known_hosts_file="{folder}/known_hosts"'
    hosts = {role: f'_lab_host("{name}", {place}, ssh_port={ports[name]})' for role, name in ROLES.items()}
    file = folder / "inventory.py"
    file.write_text(
        "from lab.hosts import lab_host as _lab_host\n" + "".join(f"{role} = [{at}]\n" for role, at in hosts.items()),
        encoding="utf-8",
    )
    return str(file)


@contextmanager
def forwarders(addresses: Mapping[str, str], seconds: float, port: int = 22) -> Iterator[dict[str, int]]:
    """Opens a port on loopback for each host, and forwards it to the host's sshd. All data is `seconds` late, in both
    directions."""
    loop = asyncio.new_event_loop()
    ports: Future[dict[str, int]] = Future()
    over = asyncio.Event()

    async def serve() -> None:
        found = {}
        for name, address in addresses.items():
            server = await asyncio.start_server(partial(_between, address, port, seconds), "127.0.0.1", 0)
            found[name] = int(server.sockets[0].getsockname()[1])
        ports.set_result(found)
        await over.wait()

    with asyncio.Runner(loop_factory=lambda: loop) as runner, ThreadPoolExecutor(1) as thread:
        thread.submit(runner.run, serve())
        try:
            yield ports.result()
        finally:
            loop.call_soon_threadsafe(over.set)


async def _between(
    address: str, port: int, seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    # At the end of the measurement some connections are still open.
    with suppress(asyncio.CancelledError):
        # The forwarder itself accepts the connection at once. Over a real slow line, three packets of TCP would pass
        # before the server's first data, so this waits that long.
        await asyncio.sleep(3 * seconds)
        there, onward = await asyncio.open_connection(address, port)
        await asyncio.gather(_later(reader, onward, seconds), _later(there, writer, seconds))


async def _later(source: asyncio.StreamReader, sink: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    while data := await source.read(65536):
        loop.call_later(seconds, sink.write, data)
    await asyncio.sleep(seconds)
    sink.close()
