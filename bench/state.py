"""The wanted state of a deployed house as plain data, so that other tools can check it: see noop.py."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from pyinfra import host, inventory

from facts.ca import CA_FOLDER, RENEW_DAYS
from facts.ollama import STORE
from operations.engine.answers import all_wanted
from plan.engine.want import Component
from plan.firewall.rules import TABLE
from plan.openclaw.configuration import ACCOUNT
from tasks import ca, headscale, openclaw
from tasks.engine.begin import leave
from tasks.engine.hosts import This
from tasks.engine.programs import program
from tasks.ollama import manifest_path
from tasks.ollama_model import model_of

#: Host -> its wanted state, for the hosts that this run has planned.
_planned: dict[str, dict[str, Any]] = {}


def state(components: list[Component], checks: list[str]) -> dict[str, Any]:
    """All that is wanted on one host, each path once. `checks`: commands that have to succeed."""
    directories = {d.path: d for c in components for d in c.directories}
    programs = {p.prefix: p for c in components for p in c.programs}
    units = {(u.name, u.user): u for c in components for u in c.units}
    return {
        "packages": sorted({name for c in components for name in c.packages}),
        "accounts": [{"name": a.name, "home": a.home} for c in components for a in c.accounts],
        "directories": [
            {"path": d.path, "owner": d.owner, "group": d.group, "mode": d.mode} for d in directories.values()
        ],
        "files": [
            {"path": f.path, "owner": f.owner, "group": f.group, "mode": f.mode, "content": f.content}
            for c in components
            for f in c.files
        ],
        # Only the files to which links lead. All other files are covered by the digest in the folder's name.
        "programs": [
            {"path": f"{p.prefix}/{part.path}", "local": str(part.local), "mode": part.mode}
            for p in programs.values()
            for part in p.parts
            if part.path in {target for _, target in p.links}
        ],
        "links": [
            {"path": link, "target": f"{p.prefix}/{target}"} for p in programs.values() for link, target in p.links
        ],
        "secrets": [
            {"path": s.path, "owner": s.owner, "group": s.group, "mode": s.mode} for c in components for s in c.secrets
        ],
        "blocks": [
            {"path": b.path, "begin": b.begin, "end": b.end, "lines": list(b.lines)}
            for c in components
            for b in c.blocks
        ],
        "units": [{"name": u.name, "account": u.user, "enabled": u.enable} for u in units.values() if not u.stopped],
        "stopped": [u.name for u in units.values() if u.stopped],
        "checks": [*(e.check for c in components for e in c.effects), *checks],
    }


def checks_of(this: This) -> list[str]:
    """What the deployment checks on a host in addition to files and units, each as a command that a person would
    write."""
    house, days = this.house, RENEW_DAYS * 86400
    authority = ca.certificate_path(house)
    found = ["tailscale status --json >/dev/null", f"nft list table inet {TABLE} >/dev/null"]

    def certificate(folder: str) -> list[str]:
        return [
            f"openssl verify -CAfile {authority} {folder}/cert.pem",
            f"openssl x509 -in {folder}/cert.pem -noout -checkend {days}",
        ]

    if this.has("coordinator"):
        found += [f"test -s {CA_FOLDER}/ca.crt -a -s {CA_FOLDER}/ca.key", *certificate(headscale.TLS)]
        found += ["headscale users list --output json", "headscale nodes list --output json"]
    if this.has("model_hosts"):
        files = model_of(this.member).model
        found += [f"test -s {STORE}/manifests/{manifest_path(files.name)}"]
        found += [
            f'test "$(stat -c %s {STORE}/blobs/{blob.digest.replace(":", "-")})" = {blob.size}' for blob in files.blobs
        ]
        found += [f"curl --silent --fail http://127.0.0.1:{house.port('ollama')}/api/tags | grep -F {files.name}"]
    if this.has("gateway"):
        image = shlex.quote(openclaw.image_name(program("openclaw", this.profile.cpu, house)))
        found += certificate(openclaw.TLS)
        found += [
            f"cd / && XDG_RUNTIME_DIR=/run/user/$(id -u {ACCOUNT}) runuser -u {ACCOUNT} -- podman image exists {image}"
        ]
    return found


def planned(this: This, file: Path) -> None:
    """Call this when a host's deployment is planned. After the last host, it writes the wanted state of all hosts into
    `file` and ends the run."""
    _planned[host.name] = state(all_wanted(host), checks_of(this))
    if len(_planned) == len(inventory.get_active_hosts()):
        file.write_text(json.dumps(_planned, indent=1), encoding="utf-8")
        leave()
