"""Parses the output of programs on a host: systemctl, nft, openssl, ip, the kernel, Ollama's journal."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from plan.engine.ip_addresses import address


def fragments(text: str) -> dict[str, str]:
    """Unit -> its file, from `systemctl show -p Id,FragmentPath`."""
    found = {}
    for block in text.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "Id" in fields:
            found[fields["Id"]] = fields.get("FragmentPath", "")
    return found


def rules(ruleset: Any) -> list[str]:
    """The objects in the output of `nft -j list table`, each as text. Leaves out numbers that are not part of the
    rules: counters and handles."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: None if key == "counter" and isinstance(inner, dict) else bare(inner)
                for key, inner in value.items()
                if key != "handle"
            }
        return [bare(each) for each in value] if isinstance(value, list) else value

    objects = [each for each in (ruleset or {}).get("nftables", ()) if "metainfo" not in each]
    return [json.dumps(bare(each), sort_keys=True) for each in objects]


def certificate_end(shown: str) -> datetime | None:
    """When a certificate ends, from openssl's output (-enddate); None when there is no certificate."""
    end = re.search(r"notAfter=(.+)", shown)
    return datetime.strptime(end[1].strip(), "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC) if end else None


def routers(text: str) -> tuple[str, ...]:
    """The routers in the output of `ip route show default`, without link-local addresses."""
    found = []
    for word in re.findall(r"\bvia (\S+)", text):
        with contextlib.suppress(ValueError):
            found.append(address(word))
    return tuple(dict.fromkeys(str(each) for each in found if not each.is_link_local))


def status_fields(text: str) -> dict[str, str]:
    """The fields of /proc/PID/status. Several spaces in a value become one."""
    pairs = (line.partition(":") for line in text.splitlines() if re.match(r"\w+:", line))
    return {name: " ".join(value.split()) for name, _, value in pairs}


@dataclass(frozen=True)
class Account:
    """What the model server logged about one prompt, in tokens: the whole prompt, and the generated answer."""

    prompt: int
    generated: int


def accounts(log: str) -> list[Account]:
    """The prompts in llama-server's log lines (Ollama 0.32 writes these to the journal)."""
    prompts = {task: int(tokens) for task, tokens in re.findall(r"task (\d+) \|.*\btask\.n_tokens = (\d+)", log)}
    made = re.findall(r"task (\d+) \|\s+eval time = .*?/\s*(\d+) tokens", log)
    return [Account(prompts[task], int(tokens)) for task, tokens in made if task in prompts]
