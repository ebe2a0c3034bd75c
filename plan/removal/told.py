"""What a removal does on a host, in words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from plan.engine.terminal_text import line
from plan.removal.belongings import EMPTY_AT_LAST, LAST
from plan.removal.leaving import QUADLETS, Leaving


def lines(found: Leaving) -> tuple[str, ...]:
    """All that goes and all that stays, a line for each thing."""
    return tuple(line(each) for each in _lines(found))


def _lines(found: Leaving) -> Iterator[str]:
    yield f"{found.host}: goes" if found else f"{found.host}: nothing goes"
    for part in found.parts:
        if not part:
            continue
        yield f"  {part.part.name}"
        yield from (f"    unit {unit}" for unit in part.units)
        yield from (f"    {path} ({size(found.sizes.get(path, 0))})" for path in part.paths)
        yield from (f"    {each.path}, but for {', '.join(each.kept)}" for each in part.emptied)
        if part.part.role == "gateway":
            yield from (f"    image {name}" for name in found.images)
        yield from (f"    account {name}, number {found.numbers[name]}, with its processes" for name in part.accounts)
    if found.names:
        yield "  the house's lines in /etc/hosts"
    if any(part.accounts and part.part.role == "gateway" for part in found.parts):
        yield f"  {QUADLETS} and what is in it, where nothing is left in it"
    if found and any(part.part == LAST for part in found.parts):
        yield f"  {', '.join(EMPTY_AT_LAST)}, where nothing is left in them"
    if found.table:
        yield "  table inet private_ai of nftables"
        opens = ", ".join(found.opens) or "no program of others listens there"
        yield f"  opens for everybody: {opens}. Programs may begin connections to anywhere"
    if found.stays:
        yield f"{found.host}: stays"
        yield from (f"    {each.path} ({size(each.size)}): {each.why}" for each in found.stays)
        idle = [name for part in found.parts for name in part.idle]
        yield from (f"    account {name}, whose files stay; its processes end" for name in idle)
    if found.packages:
        yield f"{found.host}: packages that the house has installed stay, since others may use them by now"
        yield f"    to remove them: apt-get remove --autoremove {shlex.join(found.packages)}"


def size(count: int) -> str:
    """A number of bytes for people."""
    for unit, each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= each:
            return f"{count / each:.1f} {unit}"
    return f"{count} bytes"
