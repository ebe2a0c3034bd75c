"""Lists the house's programs on a host, and those that run. Runs as root: python3 - JOB. The answer is JSON.

JOB: `units`. Answer: `folders`: folder below /opt/private-ai -> digest of its content, in the form of the folder's
name; `running`: unit -> path of its main process's program; `foreign`: files there that accounts other than root may
change. It only reads, and uses only modules of Debian's python3-minimal.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

HOME = Path("/opt/private-ai")


def digest(folder: Path) -> str:
    """The first 12 digits of the digest of a folder's files, as in plan/engine/want.py (Program.prefix)."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            lines.append(f"{name} {path.readlink()}\n")
        else:
            with path.open("rb") as stream:
                lines.append(f"{name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def running(unit: str) -> str:
    """The path of the program of a unit's main process; "" when there is none."""
    command = ["systemctl", "show", "--property=MainPID", "--value", unit]
    number = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    try:
        return str(Path(f"/proc/{number}/exe").readlink()) if number not in ("", "0") else ""
    except OSError:
        return ""


def main(units: list[str]) -> dict[str, object]:
    folders = [path for path in sorted(HOME.glob("*")) if path.is_dir()]
    seen = ((path, path.lstat()) for folder in folders for path in (folder, *folder.rglob("*")))
    return {
        "folders": {str(folder): digest(folder) for folder in folders},
        "running": {unit: running(unit) for unit in units},
        "foreign": [
            str(path) for path, stat in seen if stat.st_uid or (stat.st_mode & 0o022 and not path.is_symlink())
        ],
    }


if __name__ == "__main__":
    os.nice(10)
    json.dump(main(json.loads(sys.argv[1])["units"]), sys.stdout)
