"""How large the data of programs are that are going to be upgraded."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from facts.engine.component_state import looking
from plan.engine.errors import AGAIN, STRANGE, shown
from plan.openclaw.configuration import ACCOUNT
from plan.upgrade.going_back import Kept
from plan.upgrade.notes import FOLDER
from plan.upgrade.room import DATA


class DataSizes(FactBase[Mapping[str, int]]):
    """Program -> MiB of its data, for those of `programs` that have data. Cost: one remote command, longer with many
    files. A run asks it only when it is going to upgrade something."""

    def command(self, programs: Sequence[str]) -> str:
        lines = []
        for name in programs:
            if name in DATA:
                data = DATA[name]
                left_out = f"--exclude={shlex.quote(data.left_out)} " if data.left_out else ""
                # In the folder, so that the entry to leave out is named as for tar.
                size = f"cd {shlex.quote(data.folder)} 2>/dev/null && du -skx {left_out}. 2>/dev/null"
                lines.append(f'printf "%s %s\\n" {name} "$({size} | cut -f1)"')
        return "\n".join([*lines, "echo end"])

    def process(self, output: list[str]) -> Mapping[str, int]:
        if not output or output[-1] != "end":
            raise FactProcessError(f"the size of a program's data was cut short: {shown(output[-1:])}. {AGAIN}")
        try:
            told = (line.split(" ") for line in output[:-1])
            return {name: -(-int(kib or 0) // 1024) for name, kib in told}
        except STRANGE as error:
            raise FactProcessError(
                f"the size of a program's data is not understood: {shown(error)}. {AGAIN}"
            ) from error


class KeptBefore(FactBase[Kept]):
    """What a host keeps of the version of a program from before its last upgrade. Cost: one remote command."""

    def command(self, program: str) -> str:
        image = looking(ACCOUNT, 'podman image exists "$image"')
        return "\n".join(
            [
                f"cd {FOLDER}/{shlex.quote(program)} || exit 1",
                # After a way back that was taken back, the files of before are those that it was to put into place.
                "files=before.tar; [ ! -e after.tar ] || files=after.tar",
                '[ -e "$files" ] || echo "missing the files of before"',
                "tar --list --verbose --file=$files | sed -n 's/.* -> //p' | while read -r to; do",
                '[ -e "$to" ] || echo "missing $to"; done',
                "image=$(tar --extract --to-stdout --wildcards --file=$files '*.container' 2>/dev/null "
                "| sed -n 's/^Image=//p')",
                f'if [ -n "$image" ] && ! {image}; then echo "missing the image $image"; fi',
                'echo "revision $(cat revision 2>/dev/null)"; echo end',
            ]
        )

    def process(self, output: list[str]) -> Kept:
        if not output or output[-1] != "end":
            raise FactProcessError(f"what is kept of the version before was cut short: {shown(output[-1:])}. {AGAIN}")
        told = [line.partition(" ")[::2] for line in output]
        return Kept(
            tuple(dict.fromkeys(rest for word, rest in told if word == "missing")),
            next((rest for word, rest in told if word == "revision"), ""),
        )
