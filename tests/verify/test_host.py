"""Checks on each host itself: its services run and answer, nothing else listens, secrets are only in their places."""

from __future__ import annotations

import re

import testinfra.host

from plan.base.preflight import CLOCK_LIMIT_S
from plan.firewall.rules import service_egress
from plan.house.house import Member
from plan.other_programs.drop_ins import in_force, removal, units_of
from plan.removal.belongings import claims_left_over, command
from plan.renewal import TIMER
from plan.verification import declared, is_loopback, misplaced, missing, program_units, secret_files, unit_accounts
from plan.verification import units_of as allowed_units
from tests.verify.ledger import Check, Way
from tests.verify.printed import fragments
from tests.verify.probing import Probing

UNITS = {"coordinator": ("headscale", TIMER), "gateway": (TIMER,), "model_hosts": ("ollama",)}
EVERYWHERE = ("private-ai-firewall", "private-ai-health.timer", "private-ai-names.path", "tailscaled")
#: Units of the house that have sockets in addition to those of the access table's rows.
OURS = frozenset({"headscale.service", "ollama.service", "tailscaled.service", "openclaw.service"})


def test_services(member: Member, probing: Probing, check: Check) -> None:
    """The services of a host answer the host itself, in their own protocol, at each of its addresses.

    If this holds, and the same fails from another place, the network between them is the cause.
    """
    asked = probing.own(member)
    seen = {each.item: probing.host(member.name)["service"][each.item] for each in asked}
    check(
        bool(asked) and all(said.startswith("ok: ") for said in seen.values()),
        source=member.name,
        target="itself",
        expected=", ".join(f"{each.row.id} answers at {each.at} port {each.row.port}" for each in asked),
        observed=", ".join(f"{each.row.id} at {each.at}: {seen[each.item]}" for each in asked),
        remedy=f"on {member.name}: systemctl --failed, ss -Hltnp; then run the deployment again",
        ways=[Way(f"{member.name}/{each.row.id}", seen[each.item].startswith("ok: "), True) for each in asked],
    )


def test_units(member: Member, machine: testinfra.host.Host, probing: Probing, check: Check) -> None:
    """The services of a host run, and will start again after a reboot."""
    units = [*EVERYWHERE, *dict.fromkeys(unit for role in sorted(member.roles) for unit in UNITS.get(role, ()))]
    if "model_hosts" in member.roles and probing.house.served_elsewhere(probing.house.row("ollama"), member):
        units.append("ollama-vpn.socket")
    bad = []
    for unit in units:
        properties = machine.service(unit).systemd_properties
        seen = (properties.get("ActiveState"), properties.get("UnitFileState"))
        if seen != ("active", "enabled"):
            bad.append(f"{unit} is {seen[0]} and {seen[1] or 'missing'}")
    check(
        not bad,
        source=member.name,
        target="itself",
        expected=f"active and enabled: {', '.join(units)}",
        observed="; ".join(bad) or "as expected",
        remedy=f"on {member.name}: systemctl status UNIT, journalctl --unit UNIT; then run the deployment again",
    )


def test_drop_ins(member: Member, probing: Probing, check: Check) -> None:
    """Nobody else has changed the house's units: there is no drop-in for them, and systemd uses none.

    A drop-in can have a service do something else than the deployment wrote: listen elsewhere, or run without limits.
    """
    state = probing.state(member.name)
    mine = units_of(member.roles)
    there = [each for each in state.profile.beside.drop_ins if each[0] in mine]
    found = sorted({*there, *in_force(state["units"].text, member.roles)})
    check(
        not found and state["units"].status == 0,
        source=member.name,
        target="itself",
        expected=f"no drop-in or other file of somebody else for the units {', '.join(sorted(mine))}",
        observed="; ".join(f"{unit} is changed by {path}" for unit, path in found)
        or ("as expected" if state["units"].status == 0 else "systemctl does not answer"),
        remedy=f"look at each; on {member.name}: "
        + "; ".join(
            removal(unit, [path for of, path in found if of == unit]) for unit in sorted({u for u, _ in found})
        ),
    )


def test_roles(member: Member, probing: Probing, check: Check) -> None:
    """Nothing of a role that the inventory does not give this host goes on there, looked after by nobody."""
    found = claims_left_over(member.roles, probing.state(member.name).profile.beside.claimed)
    check(
        not found,
        source=member.name,
        target="itself",
        expected=f"only what its roles call for: {', '.join(sorted(member.roles))}",
        observed=", ".join(f"{claim.name}, of the role {claim.role}" for claim in found) or "so",
        remedy="; ".join(command("", f"role={claim.role}", f"on={member.name}") for claim in found),
    )


def test_programs(member: Member, probing: Probing, check: Check) -> None:
    """The services run the deployed programs, unchanged.

    The name of a program's folder has the digest of its content. The check calculates it again from every byte.
    """
    seen = probing.programs(member.name)
    bad = []
    for unit, name in program_units(member).items():
        path = seen["running"][unit]
        folder = "/".join(path.split("/")[:4])
        if not path.startswith(f"/opt/private-ai/{name}-") or path.endswith("(deleted)"):
            bad.append(f"{unit} runs {path or 'nothing'}")
        elif seen["folders"].get(folder) != folder.rpartition("-")[2]:
            bad.append(f"{folder} holds something else (its digest is {seen['folders'].get(folder)})")
    bad += [f"accounts other than root may change {path}" for path in seen["foreign"][:5]]
    check(
        not bad,
        source=member.name,
        target="itself",
        expected=f"{', '.join(program_units(member))} run from folders of /opt/private-ai, whose content has the "
        "digest in their name",
        observed="; ".join(bad) or f"as expected: {', '.join(seen['running'].values())}",
        remedy=f"on {member.name}: remove the folder that holds something else, run the deployment again",
    )


def test_accounts(member: Member, probing: Probing, check: Check) -> None:
    """Each service runs as an account of its own that can do nothing else: no login, no other groups."""
    state, bad = probing.state(member.name), []
    running = {unit: account for unit, _, account in (line.partition(" ") for line in state["users"].text.splitlines())}
    for unit, account in unit_accounts(member).items():
        found = running.get(unit, "an account that is not known")
        # A service that does not run has no account. `test_units` reports that.
        if found not in (account, ""):
            bad.append(f"{unit} runs as {found}")
    seen = {line.split("|")[0]: line.split("|")[1:] for line in state["accounts"].text.splitlines() if "|" in line}
    for name in service_egress(probing.house, member):
        groups, shell, password = seen.get(name) or ("", "", "")
        if groups != name:
            bad.append(f"{name} is in the groups {groups or 'none, because there is no such account'}")
        if not shell.endswith("/nologin"):
            bad.append(f"{name} has the shell {shell}")
        if password not in ("!", "*"):
            bad.append(f"{name} has a password")
    check(
        not bad,
        source=member.name,
        target="itself",
        expected=", ".join(f"{unit} as {account}" for unit, account in unit_accounts(member).items())
        + "; accounts without login, password or further groups",
        observed="; ".join(bad) or "as expected",
        remedy=f"run the deployment again; on {member.name}: systemctl cat UNIT, id ACCOUNT, getent passwd ACCOUNT",
    )


def test_listeners(member: Member, probing: Probing, check: Check) -> None:
    """For every row of the access table a program listens, and the house's programs listen nowhere else.

    Ollama listens only on loopback and in the VPN, so it is not open even if the firewall is off.
    """
    state = probing.state(member.name)
    wrong = misplaced(probing.house, state.listeners)
    wrong += [f"nothing at {each}" for each in missing(probing.house, member, state.listeners, state.vpn)]
    check(
        not wrong,
        source=member.name,
        target="itself",
        expected="a program listens for every row of the access table; Ollama only on loopback and in the VPN, "
        "Headscale's own ports only on loopback",
        observed="; ".join(wrong) or "as expected",
        remedy=f"run the deployment again; then on {member.name}: ss -Hltunp",
    )


def test_owners(member: Member, probing: Probing, check: Check) -> None:
    """Every listening socket has a known owner: a port of the table belongs to its service, others to some service.

    A program that a person has started is a warning. It is a failure if it uses a port of the house, or if it runs on a
    server and is not a service of the system. Programs that the settings name are accepted.
    """
    state = probing.state(member.name)
    files = fragments(state["units"].text)
    bad, unknown = [], []
    for each in state.listeners:
        wanted, unit = allowed_units(each, probing.house), each.unit or "no unit"
        said = f"{each.port}/{each.proto} on {each.address} is held by {each.process or 'somebody'} ({unit})"
        file = files.get(each.unit, "")
        packaged = file.startswith(("/usr/lib/systemd/", "/lib/systemd/"))
        if wanted and unit not in wanted and each.process != "tailscaled":
            bad.append(f"{said} instead of {' or '.join(wanted)}")
        elif wanted or packaged or each.unit in OURS or declared(each, probing.house, member):
            continue
        elif member.is_server and not is_loopback(each.address) and not file.startswith("/etc/systemd/"):
            bad.append(said)
        else:
            unknown.append(said)
    check(
        not bad and not unknown,
        source=member.name,
        target="itself",
        expected="each listening socket is held by a service of the house or of a Debian package",
        observed="; ".join([*bad, *unknown]) or f"{len(state.listeners)} sockets, all known",
        remedy=f"on {member.name}: ss -Hltunp, systemctl status PID; stop the programs that should not run there",
        warn=not bad,
    )


def test_clock(member: Member, probing: Probing, check: Check) -> None:
    """The host's clock agrees with this computer's. Certificates and join keys need that."""
    skew = probing.state(member.name).profile.clock_skew_s
    check(
        abs(skew) <= CLOCK_LIMIT_S,
        source=member.name,
        target="itself",
        expected=f"within {CLOCK_LIMIT_S} s of this computer's clock",
        observed=f"{skew:+.1f} s",
        remedy=f"on {member.name}: timedatectl; set the clock, and have systemd-timesyncd or chrony keep it",
    )


def test_ssh(member: Member, probing: Probing, check: Check) -> None:
    """SSH accepts no passwords. This is only advice: the house itself needs only keys."""
    section = probing.state(member.name)["sshd"]
    said = dict(line.split(" ", 1) for line in section.text.splitlines() if " " in line)
    bad = [
        f"{name} {said[name]}"
        for name in ("passwordauthentication", "kbdinteractiveauthentication", "permitemptypasswords")
        if said.get(name, "no") != "no"
    ]
    bad += ["permitrootlogin yes"] if said.get("permitrootlogin") == "yes" else []
    check(
        section.status == 0 and not bad,
        source=member.name,
        target="itself",
        expected="no login by password, also not for root",
        observed=", ".join(bad) or ("as expected" if section.status == 0 else section.text or "sshd -T prints nothing"),
        remedy=f"on {member.name}: PasswordAuthentication no, KbdInteractiveAuthentication no and PermitRootLogin "
        "prohibit-password in /etc/ssh/sshd_config.d/, after trying that your key works",
        warn=True,
    )


def test_updates(member: Member, probing: Probing, check: Check) -> None:
    """No updates wait on the host, and none needs a reboot."""
    state = probing.state(member.name)
    section = state["updates"]
    waiting = re.findall(r"^Inst (\S+)", section.text, re.MULTILINE)
    reboot = state.profile.reboot_required
    check(
        section.status == 0 and not waiting and not reboot,
        source=member.name,
        target="itself",
        expected="no package updates waiting, no reboot needed",
        observed=(f"{len(waiting)} updates: {', '.join(waiting[:8])}" if waiting else "no updates that apt knows of")
        + (", a reboot is needed" if reboot else "")
        + ("" if section.status == 0 else f"; apt says: {section.text[-200:]}"),
        remedy=f"on {member.name}: apt-get update && apt-get upgrade; then reboot, if apt says that it is needed",
        warn=True,
    )


def test_secret_files(member: Member, probing: Probing, check: Check) -> None:
    """Only its service can read a file with a secret, and nobody can guess a token."""
    wanted = {each.path: each.described for each in secret_files(member, folders=True)}
    found = probing.secrets(member.name)
    seen = found["files"]
    bad = [f"{path} is {seen[path] or 'missing'}" for path in wanted if seen[path] != wanted[path]]
    bad += [f"{path} can be guessed" for path in found["weak"]]
    check(
        not bad,
        source=member.name,
        target="itself",
        expected=", ".join(f"{path} {said}" for path, said in wanted.items()),
        observed=", ".join(bad) or "as expected",
        remedy=f"on {member.name}: chown, chmod, or run the deployment again. Others may know the secret",
    )


def test_secret_traces(member: Member, probing: Probing, check: Check) -> None:
    """No secret is in arguments or environments of processes, in the journal, in logs, or in files that all can
    read."""
    seen = probing.secrets(member.name)
    searched = ", ".join(f"{count:,} {what}" for what, count in seen["searched"].items())
    check(
        not seen["found"] and bool(seen["searched"]),
        source=member.name,
        target="itself",
        expected=f"none of {seen['known']} secrets of this host, no join key, no private key",
        observed="; ".join(seen["found"]) or f"none ({searched}, all processes)",
        remedy="make a new secret, because others may know this one; then remove the place where it was found "
        "(for the journal: journalctl --rotate and --vacuum-time=1s)",
    )
