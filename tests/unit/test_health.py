"""How a host checks itself: the real program runs in a made-up root, with stub commands."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from facts.ca import RENEW_DAYS
from facts.engine.component_state import STAMPS
from operations.engine.answers import NotYet
from plan.backup.places import DONE, KEPT_AT, SERVICE, TIMER
from plan.backup.restoring import RESTORED
from plan.backup.retention import OLD_DAYS
from plan.health import SUCCESSOR_WARN_DAYS, Look, look_of
from plan.house.house import House
from tasks import health, openclaw
from tasks.engine.hosts import This
from tests.unit import houses
from tests.unit.test_backup import AGE
from tests.unit.test_preflight import GOOD
from tests.unit.test_restore import NOTE as RESTORED_NOTE

#: The folders that are below the made-up root.
FOLDERS = ("/etc/", "/usr/local/", "/var/lib/", "/run/")
AUTHORITY = "/usr/local/share/ca-certificates/private-ai-house.crt"
CERTIFICATES = (AUTHORITY, "/etc/headscale/tls/cert.pem", "/etc/openclaw/tls/cert.pem")
#: Command -> the script that replaces it. Each prints a file of the made-up root, $ROOT.
STUBS = {
    "systemctl": """
for word; do last=$word; done
case "$*" in
    start*) echo "$last" >> "$ROOT/started" ;;
    *MainPID*) echo self ;;
    *) cat "$ROOT/units/$last" ;;
esac""",
    "systemd-run": "cat $ROOT/image",
    "curl": """
echo "$*" | grep -qF -f "$ROOT/silent" && exit 7
echo 'pass {"ready":true}'""",
    "nft": "cat $ROOT/table",
    "tailscale": """
case "$*" in
    *netmap) cat "$ROOT/netmap" ;;
    ip*) echo 100.64.0.1 ;;
    *) cat "$ROOT/tailscale" ;;
esac""",
    "df": "cat $ROOT/df",
    "getent": "cat $ROOT/found",
    "timedatectl": "cat $ROOT/clock",
    "systemd-detect-virt": "cat $ROOT/virt",
}
#: Recorded from Tailscale 1.102.3, shortened.
TAILSCALE = """{
  "BackendState": "Running",
  "Self": {
    "Online": true,
    "KeyExpiry": "2399-05-23T22:14:43Z"
  },
  "Health": []
}
"""
#: Recorded on a host where systemd-resolved was installed but not on D-Bus. The text after the colon is made up.
NO_NAMES = "Tailscale failed to set the DNS configuration of your device: no bus"
TOLD = "Next: see 'Names of the VPN' in docs/troubleshooting.md"
#: Recorded on a host where the file was immutable.
IMMUTABLE = (
    'Tailscale failed to set the DNS configuration of your device: remove of \\"/etc/resolv.conf\\" failed (remove '
    "/etc/resolv.conf: operation not permitted) and so did truncate: truncate /etc/resolv.conf: operation not permitted"
)
#: Recorded from a host that may reach two others. The version of the second one is made up.
NETMAP = """{
\t"Peers": [
\t\t{
\t\t\t"Addresses": [
\t\t\t\t"100.64.0.2/32",
\t\t\t\t"fd7a:115c:a1e0::2/128"
\t\t\t],
\t\t\t"Cap": 142,
\t\t\t"ComputedName": "laptop",
\t\t\t"Hostinfo": {
\t\t\t\t"Hostname": "laptop",
\t\t\t\t"IPNVersion": "1.102.3",
\t\t\t\t"OS": "linux"
\t\t\t}
\t\t},
\t\t{
\t\t\t"Addresses": [
\t\t\t\t"100.64.0.3/32"
\t\t\t],
\t\t\t"Cap": 142,
\t\t\t"ComputedName": "anna-phone",
\t\t\t"Hostinfo": {
\t\t\t\t"IPNVersion": "1.102.9-t3a2b1c0d9-g1234567890",
\t\t\t\t"OS": "android"
\t\t\t}
\t\t}
\t],
\t"SelfNode": {
\t\t"Addresses": [
\t\t\t"100.64.0.1/32",
\t\t\t"fd7a:115c:a1e0::1/128"
\t\t],
\t\t"ComputedName": "home",
\t\t"Hostinfo": {
\t\t\t"Hostname": "home",
\t\t\t"IPNVersion": "1.102.3"
\t\t}
\t}
}
"""
DF = """Filesystem 1024-blocks Used Available Capacity Mounted on
/dev/sda1 20000000 9000000 11000000 45% /
/dev/sda1 20000000 9000004 10999996 45% /
"""


def certificate(days: int) -> str:
    """A certificate (PEM) that expires in so many days, or has expired."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days, minutes=5))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode()


class World:
    """A made-up root of a host that is well, and the program that checks it."""

    def __init__(self, root: Path, calls: list[health.Call]) -> None:
        self.root = root
        (root / "bin").mkdir(parents=True)
        for name, text in STUBS.items():
            (root / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (root / "bin" / name).chmod(0o755)
        self.write("/var/lib/private-ai/health/none", "")
        self.write("/table", "table inet private_ai {}")
        self.write("/image", "0123abcd")
        self.write("/silent", "")
        self.write("/tailscale", TAILSCALE)
        self.write("/netmap", NETMAP)
        self.write("/df", DF)
        self.write("/clock", "yes")
        self.write("/virt", "none")
        self.write("/found", "100.64.0.1      home.vpn.house.internal")
        for path in CERTIFICATES:
            self.write(path, certificate(3000))
        self.write(MODEL, "{}")
        self.units = [call for call in calls if call[0] == "unit"]
        for unit in self.units:
            self.write(f"/units/{unit[1]}", f"ActiveState=active\nLoadState=loaded\nUnitFileState={unit[2]}\n")
        self.stamp()
        self.program = health.program("home", calls, again=0)

    def stamp(self) -> None:
        """Write the stamps, as the deployment does after it has started every unit."""
        for unit in self.units:
            self.write(f"/var/lib/private-ai/stamps/{unit[1]}", self.sh(unit[5]).stdout)

    def here(self, text: str) -> str:
        for folder in FOLDERS:
            text = text.replace(f" {folder}", f" {self.root}{folder}").replace(f'"{folder}', f'"{self.root}{folder}')
        return text

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def remove(self, path: str) -> None:
        (self.root / path.lstrip("/")).unlink()

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.root / path.lstrip("/")).read_text()
        assert old in text
        self.write(path, text.replace(old, new))

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}", "ROOT": str(self.root)}
        return subprocess.run(
            ["sh", "-c", self.here(script)], env=env, text=True, capture_output=True, check=False, cwd=self.root
        )

    def look(self) -> Look:
        done = self.sh(self.program)
        assert done.returncode == 0 and not done.stderr, done.stderr
        folder = self.root / "var/lib/private-ai/health"
        assert done.stdout == (folder / "state.txt").read_text()
        assert sorted(file.name for file in folder.iterdir()) == ["none", "state.json", "state.txt"]
        assert (folder / "state.json").stat().st_mode & 0o777 == 0o644
        return look_of((folder / "state.json").read_text().replace(str(self.root), ""))

    @property
    def started(self) -> list[str]:
        file = self.root / "started"
        return file.read_text().split() if file.exists() else []


def calls(house: House, name: str) -> list[health.Call]:
    return health.calls(This(house, house.member(name), GOOD))


@pytest.fixture(scope="module", autouse=True)
def known() -> Iterator[None]:
    """Let the run know what it needs of its hosts: the model of the model host, and the number of OpenClaw's
    account."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "choice_of", lambda member: SimpleNamespace(entry=SimpleNamespace(name="smollm2:135m")))
        patch.setattr(openclaw, "account_number", lambda: 997)
        yield


@pytest.fixture(scope="module")
def made(known: None, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A made-up root, made once for all tests, because the stamps contain digests of files with their paths."""
    world = World(tmp_path_factory.mktemp("health") / "root", calls(houses.single(), "home"))
    shutil.copytree(world.root, world.root.with_name("copy"))
    return world


@pytest.fixture
def world(made: World) -> World:
    """The made-up root, restored after the last test."""
    shutil.rmtree(made.root)
    shutil.copytree(made.root.with_name("copy"), made.root)
    made.program = health.program("home", calls(houses.single(), "home"), again=0)
    return made


def bad(look: Look) -> dict[str, tuple[str, str]]:
    return {each.check: (each.state, each.says) for each in look.checks if each.state != "ok"}


def test_a_client_that_does_not_find_the_house_s_names_says_why(tmp_path: Path) -> None:
    world = World(tmp_path / "root", calls(houses.single(), "laptop"))
    assert bad(world.look()) == {}
    world.write("/found", "")
    state, says = bad(world.look())["VPN"]
    assert state == "warning" and TOLD in says
    assert "cannot use the house's names: home.vpn.house.internal is not found, /etc/resolv.conf asks " in says
    world.edit("/tailscale", '"Health": []', f'"Health": [\n    "{IMMUTABLE}"\n  ]')
    state, says = bad(world.look())["VPN"]
    assert state == "warning" and "operation not permitted" in says
    assert says.endswith("Next: chattr -i /etc/resolv.conf; systemctl restart tailscaled")


def test_a_host_on_which_all_is_well_says_so(world: World) -> None:
    look = world.look()
    assert look.state == "ok" and bad(look) == {} and len(look.checks) == 19
    assert abs(look.time - datetime.now(UTC).timestamp()) < 60 and look.since == look.time
    days = {each.check: each.days for each in look.checks if each.days is not None}
    assert days.pop("VPN") > 100_000
    assert set(days.values()) == {3000} and len(days) == 3
    assert world.started == []


def unit_says(name: str, **fields: str) -> Callable[[World], None]:
    said = {"ActiveState": "active", "LoadState": "loaded", "UnitFileState": "enabled", **fields}
    return lambda world: world.write(f"/units/{name}", "".join(f"{key}={value}\n" for key, value in said.items()))


def silent(url: str) -> Callable[[World], None]:
    return lambda world: world.write("/silent", f"{(world.root / 'silent').read_text()}{url}\n")


def with_end(end: str) -> Callable[[World], None]:
    return lambda world: world.edit("/tailscale", "2399-05-23T22:14:43Z", end)


SOON = f"{datetime.now(UTC) + timedelta(days=13, hours=1):%Y-%m-%dT%H:%M:%SZ}"
MODEL = "/var/lib/ollama/models/manifests/registry.ollama.ai/library/smollm2/135m"
DIFFERS = "runs with other files or another program than the deployment started it with"
RULES = "has other rules in force, or another file of rules, than the deployment loaded"
SILENT = "is active and does not answer"
#: What is done to the made-up root; then the state, the check and the words that the program must report.
CASES: list[tuple[Callable[[World], None], str, str, str]] = [
    (unit_says("ollama.service", ActiveState="inactive"), "failed", "ollama.service", "is inactive (loaded)"),
    (silent("11434/api"), "failed", "ollama.service", SILENT),
    # Like after an interrupted deployment.
    (lambda world: world.remove("/var/lib/private-ai/stamps/ollama.service"), "warning", "ollama.service", DIFFERS),
    (
        unit_says("ollama.service", ActiveState='in"a\\ct\tive\x1b'),
        "failed",
        "ollama.service",
        'is in"a\\ct ive  (loaded)',
    ),
    (
        unit_says("tailscaled.service", ActiveState="inactive", LoadState="masked"),
        "failed",
        "tailscaled.service",
        "is inactive (masked)",
    ),
    (
        unit_says("headscale.service", UnitFileState="disabled"),
        "warning",
        "headscale.service",
        "is active and would not start at boot",
    ),
    (silent("443/health"), "failed", "headscale.service", SILENT),
    (lambda world: world.write("/etc/headscale/config.yaml", "edited"), "warning", "headscale.service", DIFFERS),
    (silent("readyz"), "failed", "openclaw.service", SILENT),
    # OpenClaw answers on loopback, but not at the address of clients.
    (silent(":18789:100.64.0.1 "), "failed", "openclaw.service", SILENT),
    (lambda world: world.write("/image", "4567"), "warning", "openclaw.service", DIFFERS),
    (
        unit_says("openclaw.service", ActiveState="failed", ExecMainStatus="78"),
        "failed",
        "openclaw.service",
        f"is not started again: {openclaw.CANNOT_OPEN[1]}",
    ),
    (
        unit_says("openclaw.service", ActiveState="failed", ExecMainStatus="1"),
        "failed",
        "openclaw.service",
        "is failed (loaded)",
    ),
    # The account's systemd does not answer.
    (
        lambda world: world.remove("/units/openclaw.service"),
        "failed",
        "openclaw.service",
        "is not known to systemd (no answer)",
    ),
    (lambda world: world.write("/table", ""), "failed", "private-ai-firewall.service", RULES),
    (
        lambda world: world.write("/etc/private-ai/firewall.nft", "edited"),
        "failed",
        "private-ai-firewall.service",
        RULES,
    ),
    (lambda world: world.remove(MODEL), "failed", "model smollm2:135m", "is not in Ollama's store"),
    (lambda world: world.edit("/df", "11000000", "1048575"), "warning", "disk /", "has 1023 MiB free"),
    (lambda world: world.edit("/df", "11000000", "262143"), "failed", "disk /", "has 255 MiB free"),
    (lambda world: world.write("/df", ""), "failed", "disk of /var/lib /opt", "cannot be read"),
    (lambda world: world.edit("/tailscale", "Running", "NeedsLogin"), "failed", "VPN", "is not joined: NeedsLogin"),
    (
        lambda world: world.edit("/tailscale", "Running", "Starting"),
        "failed",
        "VPN",
        "has not reached the control server and its relay yet",
    ),
    (
        lambda world: world.write("/tailscale", ""),
        "failed",
        "VPN",
        "is not joined: tailscaled does not answer",
    ),
    (
        lambda world: world.edit("/tailscale", "true", "false"),
        "warning",
        "VPN",
        "is joined and does not hear the control server",
    ),
    (
        lambda world: world.edit("/netmap", "1.102.9-t3a2b1c0d9", "1.106.0-t3a2b1c0d9"),
        "warning",
        "clients",
        "have a Tailscale that is too new to reach this host: anna-phone (1.106)",
    ),
    (
        lambda world: world.edit(
            "/tailscale",
            '"Health": []',
            f'"Health": [\n    "Some peers are older.",\n    "{NO_NAMES}"\n  ]',
        ),
        "warning",
        "VPN",
        f"is joined and cannot use the house's names: {NO_NAMES}. {TOLD}",
    ),
    (with_end(SOON), "warning", "VPN", "has a key that ends in 13 days"),
    (
        lambda world: world.write("/units/private-ai-renew.service", "failed"),
        "warning",
        "renewal of certificates",
        "has failed, see: systemctl status private-ai-renew.service. Next: run the deployment",
    ),
    (lambda world: world.write("/clock", "no"), "warning", "clock", "is not synchronised"),
    (lambda world: world.write("/run/reboot-required", ""), "warning", "reboot", "is pending"),
]
#: A look starts many processes, so a test makes several cases at once. All cases of a batch concern different parts of
#: the host.
BATCHES: list[dict[str, tuple[Callable[[World], None], str, str]]] = []
for _change, _state, _check, _says in CASES:
    _part = _check.split()[0]
    _free = next((each for each in BATCHES if all(_part != check.split()[0] for check in each)), None)
    if _free is None:
        BATCHES.append(_free := {})
    _free[_check] = (_change, _state, _says)


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: ", ".join(batch))
def test_what_is_not_well_is_named(world: World, batch: dict[str, tuple[Callable[[World], None], str, str]]) -> None:
    for change, _, _ in batch.values():
        change(world)
    look = world.look()
    assert bad(look) == {check: (state, says) for check, (_, state, says) in batch.items()}
    assert look.state == ("failed" if "failed" in {state for _, state, _ in batch.values()} else "warning")


@pytest.mark.parametrize(
    ("authority", "headscale", "gateway"),
    [
        ((180, "ok"), (90, "ok"), (89, "warning")),
        ((179, "warning"), (7, "warning"), (6, "failed")),
        ((6, "failed"), (0, "failed"), (-1, "failed")),
    ],
)
def test_days_of_certificates(
    world: World, authority: tuple[int, str], headscale: tuple[int, str], gateway: tuple[int, str]
) -> None:
    wanted = {}
    for path, (days, state) in ((AUTHORITY, authority), (CERTIFICATES[1], headscale), (CERTIFICATES[2], gateway)):
        world.write(path, certificate(days))
        wanted[f"certificate {path}"] = (state, f"has {days} days left" if days >= 0 else "has expired")
    # As if a deployment had installed these certificates and started the services with them.
    world.stamp()
    assert bad(world.look()) == {check: seen for check, seen in wanted.items() if seen[0] != "ok"}


def test_a_file_that_is_no_certificate_is_a_failure(world: World) -> None:
    world.edit(CERTIFICATES[2], "CERTIFICATE", "NOTHING")
    world.stamp()
    assert bad(world.look()) == {f"certificate {CERTIFICATES[2]}": ("failed", "cannot be read")}


def test_a_container_s_clock_is_its_machine_s(world: World) -> None:
    world.write("/clock", "no")
    world.write("/virt", "systemd-nspawn")
    assert world.look().state == "ok"


def test_a_change_to_a_unit_by_somebody_else_is_told(world: World) -> None:
    world.write("/etc/systemd/system/ollama.service.d/wide.conf", "[Service]\n")
    told = bad(world.look())
    assert told.keys() == {"units"} and "ollama.service.d/wide.conf" in str(told["units"])


def test_the_worst_counts_and_all_is_told(world: World) -> None:
    world.write("/run/reboot-required", "")
    unit_says("ollama.service", ActiveState="failed")(world)
    world.write("/clock", "no")
    look = world.look()
    assert look.state == "failed"
    assert bad(look).keys() == {"ollama.service", "clock", "reboot"}
    said = (world.root / "var/lib/private-ai/health/state.txt").read_text().splitlines()
    assert said[0].startswith("home is failed since 20") and said[0].endswith(", 19 checks")
    assert said[1:] == [
        "failed: ollama.service is failed (loaded)",
        "warning: clock is not synchronised",
        "warning: reboot is pending",
    ]


def test_a_successor_that_is_due_and_missing_is_told(short: World) -> None:
    file, following = CERTIFICATES[2], "/etc/openclaw/tls/next/cert.pem"
    short.program = health.program("gate", [("successor", file, following, str(RENEW_DAYS))], again=0)
    missing = {f"successor of {file}": ("warning", "is missing. Next: run the deployment")}
    for days, there, wanted in ((RENEW_DAYS + 1, "", {}), (RENEW_DAYS - 1, "", missing), (20, "a successor", {})):
        short.write(file, certificate(days))
        short.write(following, there)
        assert bad(short.look()) == wanted, days


@pytest.fixture
def short(world: World) -> World:
    """The same root with a short list of checks, because a look starts many processes."""
    world.program = health.program("home", [("model", "m", MODEL), ("reboot", "/run/reboot-required")], again=0)
    return world


def test_a_change_is_told_once(short: World) -> None:
    told = []
    for manifest in ("{}", "", "", "{}", "{}"):
        short.write(MODEL, manifest)
        short.look()
        told.append(short.started)
    failed, well = (f"private-ai-health-notify@{state}.service" for state in ("failed", "ok"))
    assert told == [[], [failed], [failed], [failed, well], [failed, well]]


def test_a_host_that_was_never_well_is_told_too(short: World) -> None:
    short.write("/run/reboot-required", "")
    short.look()
    assert short.started == ["private-ai-health-notify@warning.service"]


def test_the_last_change_is_remembered(short: World) -> None:
    short.write(MODEL, "")
    first = short.look()
    short.edit("/var/lib/private-ai/health/state.json", f'"since": {first.since}', '"since": 1700000000')
    assert short.look().since == 1700000000
    short.write(MODEL, "{}")
    again = short.look()
    assert again.since == again.time


def test_a_state_that_cannot_be_written_is_an_error_and_the_old_one_stays(short: World) -> None:
    short.look()
    folder = short.root / "var/lib/private-ai/health"
    before = (folder / "state.json").read_text()
    (folder / "state.json.new").mkdir()
    short.write(MODEL, "")
    assert short.sh(short.program).returncode == 1
    assert (folder / "state.json").read_text() == before and short.started == []


def test_bad_news_is_looked_at_twice(world: World) -> None:
    # The gateway does not answer the first attempt only, as while a deployment restarts it.
    silent("readyz")(world)
    stub = world.root / "bin/curl"
    stub.write_text(stub.read_text().replace("&& exit 7", '&& : > "$ROOT/silent" && exit 7'))
    assert world.look().state == "ok" and world.started == []


@pytest.mark.parametrize(
    ("seconds", "state", "says", "days"),
    [
        (0, "ok", "is 0 days old", 0),
        (OLD_DAYS * 86400 + 60, "ok", f"is {OLD_DAYS} days old", OLD_DAYS),
        ((OLD_DAYS + 1) * 86400 + 60, "warning", f"is {OLD_DAYS + 1} days old. Next: make backup", OLD_DAYS + 1),
        (-7200, "warning", "was made at a time that has not come yet: see the clock", None),
        (None, "warning", "was never made. Next: make backup", None),
    ],
)
def test_a_host_knows_how_old_its_newest_backup_is(
    tmp_path: Path, seconds: int | None, state: str, says: str, days: int | None
) -> None:
    house = houses.single(backup_recipients=[AGE])
    world = World(tmp_path / "root", [call for call in calls(house, "home") if call[0] == "backup"])
    if seconds is not None:
        world.write(DONE, f"{int(datetime.now(UTC).timestamp()) - seconds}\n")
    (seen,) = world.look().checks
    assert (seen.check, seen.state, seen.says, seen.days) == ("backup", state, says, days)


@pytest.mark.parametrize(
    ("made", "begun", "result", "state", "says", "days"),
    [
        (3600, 9000, "success", "ok", "is 0 days old", 0),
        (172_800 + 60, 900_000, "success", "warning", "is missing for 2 days. Next: journalctl", 2),
        # The newest is not old yet, but the last try failed.
        (3600, 9000, "exit-code", "warning", "was not made at the last try: exit-code. Next: journalctl", None),
        # The timer was started, and its time has not come.
        (None, 9000, "success", "ok", "is made for the first time when its timer says so", None),
        (None, 172_800 + 60, "success", "warning", "is missing for 2 days. Next: journalctl", 2),
    ],
)
def test_a_host_knows_how_old_its_own_newest_backup_is(
    tmp_path: Path, made: int | None, begun: int, result: str, state: str, says: str, days: int | None
) -> None:
    house = houses.single(backup_recipients=[AGE], backup_every="1 day")
    world = World(tmp_path / "root", [call for call in calls(house, "home") if call[0] == "kept"])
    now = int(datetime.now(UTC).timestamp())
    world.write(f"/units/{SERVICE}", f"{result}\n")
    world.write(f"{STAMPS}/{TIMER}", "")
    os.utime(world.root / f"{STAMPS}/{TIMER}".lstrip("/"), (now - begun,) * 2)
    if made is not None:
        world.write(KEPT_AT, f"{now - made}\n")
    (seen,) = world.look().checks
    assert (seen.check, seen.state, seen.days) == ("own backup", state, days) and seen.says.startswith(says)


def test_only_hosts_that_make_their_own_look_for_it_and_for_its_timer() -> None:
    house = houses.split(backup_recipients=[AGE], backup_every="1 day")
    looking = {each.name: [call[1] for call in calls(house, each.name) if call[0] == "unit"] for each in house.members}
    assert {name for name, units in looking.items() if TIMER in units} == {"hub", "gate"}
    assert "kept" in [call[0] for call in calls(house, "gate")]
    assert "kept" not in [call[0] for call in calls(houses.split(backup_recipients=[AGE]), "gate")]


def test_only_hosts_that_are_backed_up_look_for_a_backup() -> None:
    house = houses.split(backup_recipients=[AGE])
    looking = {member.name for member in house.members if "backup" in [call[0] for call in calls(house, member.name)]}
    assert looking == {"hub", "gate"}
    assert "backup" not in [call[0] for call in calls(houses.split(), "hub")]


def test_each_host_looks_at_its_own_part() -> None:
    house = houses.split()
    units = {
        member.name: {call[1] for call in calls(house, member.name) if call[0] == "unit"} for member in house.members
    }
    every = {"private-ai-names.path", "private-ai-firewall.service", "tailscaled.service"}
    assert units == {
        "hub": every | {"headscale.service", "private-ai-renew.timer"},
        "gate": every | {"openclaw.service", "private-ai-renew.timer"},
        "brain": every | {"ollama.service", "ollama-vpn.socket"},
        "laptop": every,
    }
    assert [call[1] for call in calls(house, "laptop") if call[0] == "certificate"] == [AUTHORITY]
    assert not [call for call in calls(house, "hub") if call[0] == "model"]
    assert [call[0] for call in calls(house, "hub")].count("renewal") == 1
    # A host without an authority has a successor, which takes the place of its certificate late.
    certificate = ("certificate", CERTIFICATES[2], str(SUCCESSOR_WARN_DAYS), "7")
    successor = ("successor", CERTIFICATES[2], "/etc/openclaw/tls/next/cert.pem", str(RENEW_DAYS))
    assert {certificate, successor} <= set(calls(house, "gate"))
    assert not {"successor", "renewal"} & {call[0] for call in calls(house, "laptop")}


def test_before_the_account_is_made_the_gateway_s_look_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openclaw, "account_number", lambda: None)
    assert calls(houses.split(), "hub")
    with pytest.raises(NotYet):
        calls(houses.split(), "gate")


@pytest.mark.parametrize(
    ("text", "state", "says"),
    [
        (None, "ok", "is not under way"),
        (RESTORED_NOTE.text, "warning", "waits for a deployment. Next: make deploy"),
        (replace(RESTORED_NOTE, phase="files").text, "failed", "was cut off. Next: run it again"),
        ("{", "failed", "was cut off. Next: run it again"),
    ],
)
def test_a_host_knows_of_a_restore_that_is_not_done(tmp_path: Path, text: str | None, state: str, says: str) -> None:
    world = World(tmp_path / "root", [call for call in calls(houses.single(), "home") if call[0] == "restored"])
    if text is not None:
        world.write(RESTORED, text)
    (seen,) = world.look().checks
    assert (seen.check, seen.state) == ("restore", state) and seen.says.startswith(says)
