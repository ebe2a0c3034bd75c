"""Checks of backups on the hosts: what is kept there is encrypted and whole, and no key that opens it is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plan.backup.manifest import missing_parts, parse_manifest
from plan.backup.places import SERVICE, TIMER
from plan.backup.schedule import INTERVALS
from plan.house.house import Member
from tests.verify.ledger import Check
from tests.verify.probing import Probing

#: What every file of age begins with (C2SP age specification, version 1).
AGE = "age-encryption.org/v1"


def test_kept(backed_up: Member, probing: Probing, check: Check) -> None:
    """Nothing of a backup is left on the host that is not encrypted, and no private key that opens one.

    A host that makes backups by itself has a timer for it, and its newest backup is whole and encrypted.
    """
    house, state = probing.house, probing.state(backed_up.name)
    said: dict[str, list[str]] = {}
    for line in state["backups"].text.splitlines():
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest)
    units = " ".join(said.get("units", ()))
    bad = [] if units else ["the host does not tell"]
    if f"Id={SERVICE} ActiveState=activating" not in _in_order(units):
        bad += [f"{path} is left, and not encrypted" for path in said.get("left", ())]
    bad += [f"{path} has a private key for backups" for path in said.get("key", ())]
    told = "no backup is kept here: backup_every is ''"
    if house.backup_every:
        if f"Id={TIMER} ActiveState=active UnitFileState=enabled" not in _in_order(units):
            bad.append(f"{TIMER} is not active and enabled: {units}")
        wrong, told = newest(said, backed_up, state.profile.clock, INTERVALS[house.backup_every].late)
        bad += wrong
    check(
        not bad,
        source=backed_up.name,
        target="itself",
        expected="nothing of a backup that is not encrypted, no private key"
        + (f", and a whole backup each {house.backup_every}" if house.backup_every else ""),
        observed="; ".join(bad) or told,
        remedy=f"on {backed_up.name}: journalctl -u {SERVICE}; take a private key off the host, and make another pair: "
        "make backup-key; then run the deployment again",
    )


def newest(said: Mapping[str, Sequence[str]], member: Member, clock: float, late: int) -> tuple[tuple[str, ...], str]:
    """What is wrong with the newest backup that a host has made by itself, and what is told when nothing is."""
    moments = [int(text) for text in (*said.get("made", ()), *said.get("begun", ())) if text.isdigit()]
    if not moments or clock - max(moments) > late:
        return (f"none was made for more than {late // 3600} hours",), ""
    if not said.get("made"):
        return (), "none is kept yet; the timer makes the first"
    name = next(iter(said.get("newest", ())), "")
    try:
        manifest = parse_manifest(next(iter(said.get("manifest", ())), ""))
    except ValueError as error:
        return (f"the newest, {name or 'none'}: {error}",), ""
    (part, *_), lacking = manifest.parts, missing_parts(manifest)
    wrong = [f"{name}: {words}" for words in lacking]
    if manifest.alone != member.name:
        wrong.append(f"{name} is not of this host")
    if list(said.get("begins", ())) != [AGE]:
        wrong.append(f"{name}: {part.file} is not encrypted with age")
    if list(said.get("sha256", ())) != [f"{part.sha256}  -"]:
        wrong.append(f"{name}: {part.file} is not as it was made")
    return tuple(wrong), f"{name} is whole, {part.size:,} bytes, for {len(manifest.recipients)} public keys"


def _in_order(units: str) -> str:
    """systemd prints properties in an order of its own."""
    blocks = [dict(each.split("=", 1) for each in block.split() if "=" in each) for block in units.split("  ")]
    names = ("Id", "ActiveState", "UnitFileState")
    return "; ".join(" ".join(f"{name}={block.get(name, '')}" for name in names) for block in blocks)
