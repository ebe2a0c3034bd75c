"""How large the data of programs are that are going to be upgraded."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from plan.engine.errors import AGAIN, STRANGE, shown
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
