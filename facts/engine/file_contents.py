"""Reads the content of files that people may see, to compare it with the wanted content."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from facts.engine.component_state import block_text
from plan.engine.errors import AGAIN
from plan.engine.want import Block, File

#: The largest content, in bytes, that is compared line by line. Our largest file has a tenth of it.
MOST = 100_000


class Contents(FactBase[list[str | None]]):
    """The text of files, and of blocks in files, in the order of the question. Cost: one remote command.

    None for a text longer than MOST. Bytes that are not UTF-8 become replacement characters.
    """

    def command(self, of: Sequence[File | Block]) -> str:
        reads = (block_text(each) if isinstance(each, Block) else f"cat -- {shlex.quote(each.path)}" for each in of)
        # base64, because the last line may end without a line break, and the file may have any bytes.
        coded = f"2>/dev/null | head -c {MOST + 1} | base64 -w 0"
        return "\n".join([*(f"printf 'content %s\\n' \"$({each} {coded})\"" for each in reads), "echo end"])

    def process(self, output: list[str]) -> list[str | None]:
        if not output or output[-1] != "end":
            raise FactProcessError(f"the content of files was cut short after {len(output)} of them. {AGAIN}")
        contents = [base64.b64decode(line.removeprefix("content ").strip()) for line in output[:-1]]
        return [None if len(each) > MOST else each.decode(errors="replace") for each in contents]
