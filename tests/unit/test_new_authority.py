"""A house gets a new authority in three steps. The scripts really run in a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pyinfra import state as run_state

from facts.ca import CA_FOLDER, CaCertificate, CaOther, CertificateState, OtherAuthority, ServerCertificate
from facts.headscale import Headscale, HeadscaleState
from operations.ca.authority import authority_script, switch_script
from operations.engine.run import CommandLine, begin_run
from plan.ca import authority_name, name_of, next_name, other_house
from plan.engine.want import Have
from plan.health import Answer, Look, new_authority
from plan.house.house import House
from tasks import ca, renewal
from tasks.devices import ready
from tasks.engine.hosts import This
from tasks.engine.house import WrongInput
from tests.unit import houses
from tests.unit.fakes import PROFILE, Fake, context
from tests.unit.test_ca import authority_of, issue, sh, state

PERMITTED = ("DNS:house.internal", "IP:100.64.0.0/255.192.0.0", "IP:fd7a:115c:a1e0::/ffff:ffff:ffff::")
NAMES = "DNS:gate.vpn.house.internal"


def stage(folder: Path) -> OtherAuthority:
    done = sh(CaOther().command(), folder)
    assert done.returncode == 0
    return CaOther().process(done.stdout.splitlines())


def text(folder: Path, name: str) -> str:
    return (folder / "ca" / name).read_text()


def fits(folder: Path, name: str) -> bool:
    """Whether key and certificate of an authority belong together."""
    key = serialization.load_pem_private_key((folder / f"ca/{name}.key").read_bytes(), None)
    return key.public_key() == x509.load_pem_x509_certificate((folder / f"ca/{name}.crt").read_bytes()).public_key()


def test_the_stage_is_seen_from_the_files_alone(tmp_path: Path) -> None:
    assert stage(tmp_path) == OtherAuthority()
    authority_of(tmp_path, 3650)
    assert stage(tmp_path) == OtherAuthority()
    first = text(tmp_path, "ca.crt")
    assert sh(authority_script("Test CA 2", PERMITTED, name="new"), tmp_path).returncode == 0
    assert stage(tmp_path) == OtherAuthority("new", text(tmp_path, "new.crt"))
    assert text(tmp_path, "ca.crt") == first and fits(tmp_path, "new") and fits(tmp_path, "ca")
    assert sh(switch_script(), tmp_path).returncode == 0
    assert stage(tmp_path) == OtherAuthority("old", first) and fits(tmp_path, "ca")
    assert name_of(text(tmp_path, "ca.crt")) == "Test CA 2"
    # The key that somebody else may have is gone.
    assert {each.name for each in (tmp_path / "ca").iterdir()} == {"ca.crt", "ca.key", "old.crt"}


@pytest.mark.parametrize("lines", [1, 2, 3, 4])
def test_a_switch_that_is_cut_off_is_finished_by_the_next_run(tmp_path: Path, lines: int) -> None:
    authority_of(tmp_path, 3650)
    first = text(tmp_path, "ca.crt")
    sh(authority_script("Test CA 2", PERMITTED, name="new"), tmp_path)
    second = text(tmp_path, "new.crt")
    sh("\n".join(switch_script().splitlines()[:lines]), tmp_path)
    assert stage(tmp_path).stage in ("new", "switching", "old")
    # Hosts trust both all the time.
    assert {text(tmp_path, "ca.crt"), stage(tmp_path).pem} == {first, second}
    assert sh(switch_script(), tmp_path).returncode == 0 or stage(tmp_path).stage == "old"
    assert stage(tmp_path) == OtherAuthority("old", first)
    assert text(tmp_path, "ca.crt") == second and fits(tmp_path, "ca")


def test_certificates_of_both_are_good_for_who_trusts_both_and_not_for_others(tmp_path: Path) -> None:
    authority_of(tmp_path, 3650)
    issue(tmp_path, NAMES)
    sh(authority_script("Test CA 2", PERMITTED, name="new"), tmp_path)
    sh(switch_script(), tmp_path)
    old_one = (tmp_path / "tls/cert.pem").read_text()
    assert state(tmp_path, NAMES) == "not signed by the CA"
    issue(tmp_path, NAMES)
    assert state(tmp_path, NAMES) == "good"
    both = tmp_path / "both"
    both.write_text(text(tmp_path, "ca.crt") + text(tmp_path, "old.crt"))
    (tmp_path / "old_one").write_text(old_one)
    for certificate, trusted, good in (
        ("tls/cert.pem", both, True),
        ("old_one", both, True),
        ("tls/cert.pem", tmp_path / "ca/old.crt", False),
        ("old_one", tmp_path / "ca/ca.crt", False),
    ):
        done = subprocess.run(
            ["openssl", "verify", "-CAfile", str(trusted), str(tmp_path / certificate)],
            capture_output=True,
            check=False,
        )
        assert (done.returncode == 0) == good, (certificate, trusted)


def test_a_new_authority_has_the_next_number_and_is_still_this_house_s(tmp_path: Path) -> None:
    house = houses.single()
    name = authority_name(house)
    for wanted in (f"{name} 2", f"{name} 3"):
        assert sh(authority_script(name, PERMITTED).replace(CA_FOLDER, str(tmp_path)), tmp_path).returncode == 0
        made = (tmp_path / "ca.crt").read_text()
        assert next_name(house, made) == wanted and other_house(house, made) is None
        name = wanted
    assert sh(authority_script("Private AI house CA x", PERMITTED), tmp_path).returncode == 0
    assert other_house(house, text(tmp_path, "ca.crt"))


def effects(house: House, other: OtherAuthority) -> dict[str, str]:
    """What a host is wanted to have of authorities: path -> content, "" for a file that must not be there."""
    hub = Fake("hub", {CaCertificate: "FIRST\n", CaOther: other})
    wanted: list[Any] = []
    with pytest.MonkeyPatch.context() as patch, context(hub, {"hub": hub}):
        patch.setattr(ca, "component", lambda name, want: wanted.append(want()))
        ca.deploy_trust(This(house, house.member("gate"), PROFILE))
    files = {file.path: file.content for file in wanted[0].files}
    return {effect.path: files.get(effect.path, "") for effect in wanted[0].effects}


def test_hosts_trust_both_as_long_as_there_are_two() -> None:
    house = houses.split()
    path = "/usr/local/share/ca-certificates/private-ai-house.crt"
    beside = "/usr/local/share/ca-certificates/private-ai-house.other.crt"
    for there in ("new", "switching", "old"):
        assert effects(house, OtherAuthority(there, "SECOND\n")) == {path: "FIRST\n", beside: "SECOND\n"}
    assert effects(house, OtherAuthority()) == {path: "FIRST\n", beside: ""}


def step(monkeypatch: pytest.MonkeyPatch, other: OtherAuthority, good: bool = True, left: str = "", **data: str) -> Any:
    """Ask for the next step in a house of topology split with a phone. `good`: hosts have what is needed for it."""
    device = {"name": "phone", "owner": "people", "kind": "ios"}
    house = houses.split(headscale_devices=[device])
    facts: dict[type, object] = {CaCertificate: "FIRST\n", CaOther: other}
    facts[CertificateState] = ServerCertificate(good, "good" if good else "not signed by the CA")
    hosts = {member.name: Fake(member.name, dict(facts)) for member in house.members}
    begin_run(CommandLine(data=data))
    monkeypatch.setattr(renewal, "the_house", lambda: house)
    monkeypatch.setattr(renewal, "have_of", lambda here, wanted: Have())
    monkeypatch.setattr(renewal, "difference", lambda wanted, have: not good)

    with context(hosts["hub"], hosts):
        made: Any = run_state
        made.is_host_in_limit = lambda here: here.name != left
        return renewal.next_step()


NEW, OLD = OtherAuthority("new", "SECOND\n"), OtherAuthority("old", "ZEROTH\n")


def test_each_call_goes_one_step_and_says_what_is_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for other, said in ((OtherAuthority(), "Step 1 of 3"), (OLD, "Step 3 of 3")):
        assert step(monkeypatch, other) == (other.stage, "FIRST\n")
        assert said in (told := capsys.readouterr().err) and "Next: " in told
    assert step(monkeypatch, NEW, missing="accepted")[0] == "new"
    told = capsys.readouterr().err
    assert "Step 2 of 3" in told and "phone: a device, it is not known whether it has it" in told


@pytest.mark.parametrize(
    ("other", "good", "left", "words"),
    [
        (NEW, True, "", ["phone: a device, it is not known whether it has it"]),
        (NEW, False, "", ["laptop: it does not trust the new authority", "gate: it does not trust"]),
        (NEW, True, "laptop", ["laptop: it is not in this run"]),
        (OLD, False, "", ["laptop: it does not trust", "hub: /etc/headscale/tls/cert.pem: not signed by the CA"]),
        (OLD, True, "brain", ["brain: it is not in this run"]),
    ],
)
def test_a_step_that_would_leave_somebody_behind_is_refused(
    monkeypatch: pytest.MonkeyPatch, other: OtherAuthority, good: bool, left: str, words: list[str]
) -> None:
    with pytest.raises(WrongInput) as refused:
        step(monkeypatch, other, good, left)
    for each in (*words, "--data missing=accepted", "(nothing was changed)"):
        assert each in str(refused.value)
    with pytest.raises(WrongInput, match="--data missing is 'yes'; accepted: accepted"):
        step(monkeypatch, other, good, left, missing="yes")


def test_status_says_who_has_not_got_the_new_one() -> None:
    house = houses.split(headscale_devices=[{"name": "phone", "owner": "people", "kind": "ios"}])
    look, folder = Look(1, "ok", 1, ()), "/usr/local/share/ca-certificates"

    def answer(*trusted: str, **there: str) -> Answer:
        files = {f"{folder}/private-ai-house{number}.crt": digest for number, digest in enumerate(trusted)}
        return Answer(True, look, 1, certificates=files | {f"{CA_FOLDER}/{name}.crt": it for name, it in there.items()})

    away = {"laptop": Answer(False, why="no route")}
    assert new_authority(house, {"hub": answer("a", ca="a"), **away}) == []
    assert new_authority(house, away) == []
    lines = new_authority(
        house, {"hub": answer("a", "b", ca="a", new="b"), "gate": answer("a", "b"), "brain": answer("a"), **away}
    )
    assert lines[0].endswith("trusted by: gate, hub")
    assert lines[1:] == ["not trusted by: brain. Next: run the deployment", "not known of: laptop, phone (a device)"]
    lines = new_authority(house, {"hub": answer("b", "a", ca="b", old="a"), "gate": answer("a"), **away})
    assert lines[0].endswith("trusted by: hub") and lines[1].startswith("not trusted by: gate.")
    assert lines[2] == "not known of: brain, laptop, phone (a device)"


def test_before_the_first_deployment_there_is_nothing_to_replace() -> None:
    house = houses.split()
    hub = Fake("hub", {CaCertificate: "", CaOther: OtherAuthority()})
    begin_run()
    with context(hub, {"hub": hub}), pytest.MonkeyPatch.context() as patch:
        patch.setattr(renewal, "the_house", lambda: house)
        with pytest.raises(WrongInput, match=r"^hub has no authority yet \(nothing was changed\). Next: run the"):
            renewal.next_step()


def test_a_device_is_not_added_while_its_page_would_have_the_authority_that_goes() -> None:
    house = houses.single(headscale_devices=[{"name": "phone", "owner": "people", "kind": "ios"}])
    known = HeadscaleState(True, {"people": 1}, (), (), {})
    for other in (NEW, OLD):
        home = Fake("home", {Headscale: known, CaCertificate: "A", CaOther: other})
        with context(home, {"home": home}):
            if other == OLD:
                ready(house, house.devices[0], "/token")
                continue
            with pytest.raises(WrongInput, match="device phone is 'the house is getting a new CA'") as refused:
                ready(house, house.devices[0], "/token")
        assert "playbooks/ca_rotate.py" in str(refused.value) and "(nothing was changed)" in str(refused.value)
