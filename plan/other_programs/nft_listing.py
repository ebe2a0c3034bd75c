"""Reads the packet filters of other programs from nft's output. Source: nft(8), iptables-restore-translate(8)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from plan.engine.terminal_text import line


@dataclass
class Chain:
    """One chain. `kind` is filter, nat or route. `kind`, `hook` and `policy` are empty for a chain that only rules of
    other chains call."""

    family: str
    table: str
    name: str
    kind: str = ""
    hook: str = ""
    policy: str = ""
    rules: list[str] = field(default_factory=list)

    @property
    def full_table(self) -> str:
        return line(f"table {self.family} {self.table}")


_BASE = re.compile(r"type (\w+) hook (\w+)\b[^;]*;(?: policy (\w+);)?")
_ADD = re.compile(r"add (chain|rule) (\S+) (\S+) (\S+) ?(.*)")


def parse(lines: Iterable[str]) -> tuple[Chain, ...]:
    """The chains in the output of `nft list ruleset`, and of iptables-restore-translate, which prints commands."""
    chains: dict[tuple[str, str, str], Chain] = {}
    table, chain, inside_other = ("", ""), None, False
    for text in map(str.strip, lines):
        if added := _ADD.fullmatch(text):
            what, family, name, chain_name, rest = added.groups()
            # A table of the old iptables is not the table of the same name that nft lists.
            key = (family, f"{name} (iptables)", chain_name)
            found = chains.setdefault(key, Chain(*key))
            if what == "rule":
                found.rules.append(rest)
            else:
                _base(found, rest)
        elif text.startswith("table "):
            # After the brace there may be a comment with the program that owns the table.
            _, family, name, *_ = text.split()
            table = (family, name)
        elif text.startswith("chain "):
            chain = Chain(*table, text.split()[1])
            chains[chain.family, chain.table, chain.name] = chain
        elif text == "}":
            # This closes a set or map if one is open, else the chain, else the table.
            if inside_other:
                inside_other = False
            else:
                chain = None
        elif chain is None:
            inside_other = inside_other or text.endswith("{")
        elif not _base(chain, text):
            chain.rules.append(text)
    return tuple(chains.values())


def _base(chain: Chain, text: str) -> bool:
    found = _BASE.search(text)
    if found is None:
        return False
    chain.kind, chain.hook, chain.policy = found[1], found[2], found[3] or "accept"
    return True


def owner(chain: Chain, chains: Iterable[Chain]) -> str:
    """The program to which a chain's table belongs, by its usual name; the table's name for an unknown program."""
    names = {each.name for each in chains if (each.family, each.table) == (chain.family, chain.table)}
    if any(name.startswith(("ufw-", "ufw6-")) for name in names):
        return "ufw"
    if chain.table == "firewalld":
        return "firewalld"
    if "DOCKER" in names or chain.table.startswith("docker"):
        return "Docker"
    if chain.table == "netavark" or any(name.startswith("NETAVARK") for name in names):
        return "Podman"
    return chain.full_table


def chain_of(chains: Sequence[Chain], beside: Chain, name: str) -> Chain | None:
    """The chain that a rule in the chain `beside` calls by its name; None when there is no such chain."""
    wanted = (beside.family, beside.table, name)
    return next((each for each in chains if (each.family, each.table, each.name) == wanted), None)


#: Parts of a rule that do not decide about a packet. Only whole words, because a chain's name may contain these words.
_NOISE = re.compile(
    r'(?<!\S)(?:comment "[^"]*"|counter(?: name \S+| packets \d+ bytes \d+)?|(?:meta|ct) mark set \S+'
    r'|log(?: prefix "[^"]*")?(?: (?:level|group|flags) \S+)*)(?!\S)'
)
_VERDICT = re.compile(
    r"(?:^| )(accept|drop|return|reject(?: with .*)?|(?:jump|goto) \S+|queue\b.*|(?<!ct status )dnat\b.*|redirect\b.*)$"
)
#: An extension of iptables for which nft has no words. Most are targets; `xt target "LOG"` decides nothing.
_OLD_TARGET = re.compile(r'xt target "(\w+)".*$')
_MAP = re.compile(r"(?P<key>\S+(?: \S+)?) vmap (?:\{ (?P<cases>.*) \}|@\S+)")


def cases(rule: str) -> Iterator[tuple[str, str]]:
    """A rule as pairs (matches, verdict). A verdict map gives one pair for each of its keys. The verdict is "" when the
    rule has none."""
    text = " ".join(_NOISE.sub(" ", rule).split())
    if old := _OLD_TARGET.search(text):
        verdict = {"REJECT": "drop", "DNAT": "dnat", "LOG": "", "NFLOG": ""}.get(old[1], "unknown")
        yield text[: old.start()].strip(), verdict
    elif mapped := _MAP.search(text):
        rest = f"{text[: mapped.start()]} {text[mapped.end() :]}".strip()
        if mapped["cases"] is None:
            yield f"{rest} unknown", "unknown"
        for case in (mapped["cases"] or "").split(", "):
            value, _, verdict = case.rpartition(" : ")
            yield f"{rest} {mapped['key']} {value}".strip(), verdict
    else:
        found = _VERDICT.search(text)
        yield (text[: found.start()], found[1]) if found else (text, "")
