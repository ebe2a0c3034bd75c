"""Programs: find them in the controller's cache, obtain them if they are not there, and make them wants of a
component."""

from __future__ import annotations

import subprocess
import sys

from pyinfra import logger

from artifacts.store import Program as Obtained
from artifacts.store import find_program
from plan.engine.want import Program, ProgramPart
from plan.house.house import House
from tasks.engine.house import WrongInput

#: The next step if a file is missing from the cache right after it was obtained.
EMPTIED = "Next: run this again, while nobody empties the cache"


def program(name: str, cpu: str, house: House, gpu: bool = False) -> Obtained:
    """A program for a CPU type from the controller's cache. If it is not there, it is obtained first. Raises
    WrongInput.

    `gpu`: with the libraries for graphics cards, which are most of Ollama's size.
    """
    found = find_program(name, cpu, house.artifacts_source, gpu)
    if found is None:
        obtain("prepare", "--cpu", cpu, "--source", house.artifacts_source, *(["--gpu"] if gpu else []), name)
        found = find_program(name, cpu, house.artifacts_source, gpu)
    if found is None:
        raise WrongInput(f"{name} for {cpu} is not in the cache after it was obtained (nothing was changed). {EMPTIED}")
    return found


def obtain(*arguments: str) -> None:
    """Have `python -m artifacts` put something into the controller's cache. Raises WrongInput when it fails."""
    logger.info(f"--> Obtaining {arguments[-1]}...")
    # In its own process: so its progress goes directly to the terminal, and gevent does not change how it works.
    done = subprocess.run([sys.executable, "-m", "artifacts", *arguments], stdout=sys.stderr, check=False)
    if done.returncode:
        raise WrongInput(
            f"obtaining {arguments[-1]} failed, see above (nothing was changed). Next: do what the lines above say and "
            "run this again; what arrived is kept"
        )


def running_program(unit: str) -> str:
    """A command that prints which program a unit's main process runs. If the file was replaced since, this shows it."""
    return f"readlink /proc/$(systemctl show --property=MainPID --value {unit})/exe || :"


def program_want(found: Obtained, links: tuple[tuple[str, str], ...]) -> Program:
    """The program as a want, with `links`: path on the host -> path below the program's folder."""
    parts = tuple(
        ProgramPart(file.path, found.directory / file.path, file.sha256, file.size, file.mode, file.link)
        for file in found.files
    )
    return Program(found.name, found.version, parts, links)
