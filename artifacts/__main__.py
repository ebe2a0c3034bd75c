"""python -m artifacts prepare | model | list: obtain programs and models for the house, or list those in the cache."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from types import FrameType
from typing import Any

from artifacts import cache, models, packages, pins, prepare, store
from artifacts.errors import ArtifactError
from artifacts.progress import Board


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 when something could not be obtained, 130 when the run was interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    given = _parser().parse_args(arguments)
    try:
        if given.command == "list":
            _list(given.json)
            return 0
        with Board() as board, cache.lock(board.say):
            if given.command == "model":
                models.prepare(given.name, board, None if given.manifest else given.without)
            else:
                cpu = given.cpu or packages.this_cpu()
                names = given.names or list(pins.load().programs)
                prepare.prepare(names, cpu, given.source, given.gpu, board)
            for name, seconds in board.seconds.items():
                board.say(f"  {seconds:7.1f} s  {name}")
        return 0
    except (ArtifactError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted. Next: run it again; it goes on from here", file=sys.stderr)
        return 130


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    programs = list(pins.load().programs)
    parser = argparse.ArgumentParser(prog="python -m artifacts", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare_ = commands.add_parser("prepare", help="put programs into the cache")
    prepare_.add_argument("--cpu", choices=pins.CPUS, help="CPU type of the hosts (default: this machine's)")
    prepare_.add_argument("--source", choices=("auto", *pins.SOURCES), default="auto")
    prepare_.add_argument("--gpu", action="store_true", help="Ollama with its libraries for graphics cards")
    prepare_.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(programs)}")
    model = commands.add_parser("model", help="put a model into the cache")
    model.add_argument("name", help="as Ollama writes it, for example qwen3:8b")
    parts = model.add_mutually_exclusive_group()
    parts.add_argument("--manifest", action="store_true", help="fetch only the manifest, which names the model's blobs")
    parts.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="DIGEST",
        help="leave this blob out; may be given several times",
    )
    list_ = commands.add_parser("list", help="list what is in the cache")
    list_.add_argument("--json", action="store_true")
    return parser


def _list(as_json: bool) -> None:
    programs = [
        found
        for name in pins.load().programs
        for cpu in pins.CPUS
        for source in pins.SOURCES
        for gpu in (False, True)
        if (found := store.find_program(name, cpu, source, gpu)) and (name == "ollama" or not gpu)
    ]
    held = store.all_models()
    if as_json:
        everything: dict[str, Any] = {
            "programs": [dataclasses.asdict(program) for program in programs],
            "models": [dataclasses.asdict(model) for model in held],
        }
        print(json.dumps(everything, indent=2, default=str))
        return
    for program in programs:
        size = sum(file.size for file in program.files)
        print(f"{program.name:10} {program.version:10} {program.cpu} {program.source:8} {size / 1e6:8,.1f} MB")
    for held_model in held:
        size = sum(blob.size for blob in held_model.blobs)
        print(f"{held_model.name:27} {held_model.source:8} {size / 1e6:8,.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
