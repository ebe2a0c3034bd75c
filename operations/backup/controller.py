"""The part of the computer from which the house is deployed: without inventory and settings no house can be made anew.

An inventory may hold passwords. The part is encrypted before it is written.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from operations.engine.download import new_file
from operations.engine.run_on_host import RemoteError
from plan.backup.manifest import ABOUT, CONTROLLER, SUMS, About, Part, file_of
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line

REPOSITORY = Path(__file__).parent.parent.parent


def need_age() -> None:
    """Raises SettingError where this computer has no age."""
    for program in ("age", "age-keygen"):
        if shutil.which(program) is None:
            step = "sudo apt-get install age; on other systems see https://age-encryption.org"
            raise SettingError(
                f"{program} on this computer", "missing", "age 1.0 or newer, which encrypts backups", step
            )


def identity_file(house: str) -> Path:
    """Where the private key of a house is unless it is said otherwise."""
    return Path.home() / f"private-ai-{house}-backup.key"


def files_of(inventory: str) -> dict[str, bytes]:
    """Path in the part -> content: the inventory, where it is a file, and the settings of groups."""
    found = {}
    file = Path(inventory)
    if file.is_file():
        found[f"inventory/{file.name}"] = file.read_bytes()
    # pyinfra reads one of the two.
    for folder in (Path("group_data"), file.parent / "group_data"):
        for each in sorted(folder.glob("*.py")) if "group_data/all.py" not in found else ():
            found[f"group_data/{each.name}"] = each.read_bytes()
    return found


def packed(files: Mapping[str, bytes], about: About) -> bytes:
    """A tar archive of the files, with ABOUT and SUMS."""
    held = {ABOUT: about.text("", (CONTROLLER,)).encode(), **files}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in sorted(held.items()))
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path, content in sorted({**held, SUMS: sums.encode()}.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def encrypt(plain: bytes, recipients: Sequence[str]) -> bytes:
    """`plain`, encrypted. It goes to age over standard input. Raises RemoteError."""
    command = ["age", "--encrypt", *(word for each in recipients for word in ("--recipient", each))]
    done = subprocess.run(command, input=plain, capture_output=True, check=False)
    if done.returncode:
        raise RemoteError(f"age on this computer: {line(done.stderr.decode(errors='replace').strip())}")
    return done.stdout


def part_of(files: Mapping[str, bytes], about: About, recipients: Sequence[str], half: Path) -> Part:
    """Make the controller's part in the folder `half`. Raises RemoteError, OSError."""
    name = file_of("")
    data = encrypt(packed(files, about), recipients)
    with new_file(half / name) as out:
        out.write(data)
    holds = {path: len(content) for path, content in sorted(files.items())}
    return Part("", (CONTROLLER,), name, len(data), hashlib.sha256(data).hexdigest(), holds, {})
