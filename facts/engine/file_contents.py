"""What stands in files that people may see, for a comparison with what is wanted there."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from facts.engine.component_state import block_text
from plan.engine.errors import AGAIN
from plan.engine.want import Block, File

#: Bytes. The largest file of the deployment is a tenth of it; what is longer is not compared line by line.
MOST = 100_000


class Contents(FactBase[list[str | None]]):
    """The present text of files, and of blocks within files, in their order. Cost: one remote command.

    None for what is longer than MOST. What is not UTF-8 becomes replacement characters.
    """

    def command(self, of: Sequence[File | Block]) -> str:
        reads = (block_text(each) if isinstance(each, Block) else f"cat -- {shlex.quote(each.path)}" for each in of)
        # base64: a last line may lack its end, and somebody may have written any bytes.
        coded = f"2>/dev/null | head -c {MOST + 1} | base64 -w 0"
        return "\n".join([*(f"printf 'content %s\\n' \"$({each} {coded})\"" for each in reads), "echo end"])

    def process(self, output: list[str]) -> list[str | None]:
        if not output or output[-1] != "end":
            raise FactProcessError(f"the content of files was cut short after {len(output)} of them. {AGAIN}")
        contents = [base64.b64decode(line.removeprefix("content ").strip()) for line in output[:-1]]
        return [None if len(each) > MOST else each.decode(errors="replace") for each in contents]
