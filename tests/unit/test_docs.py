"""The pages agree with the code: settings, access table, commands, links, paths and ports are compared."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from facts.ca import RENEW_DAYS
from facts.ollama import OTHER_STORES
from lab.topology import HABITS
from operations.ca.authority import CA_DAYS
from operations.ca.server import SERVER_DAYS
from plan.ca import OVERLAP_DAYS, SWAP_DAYS
from plan.drift import Found, HostDrift, as_json, content_diff, report
from plan.engine.claims import ACCOUNTS, CLAIMS
from plan.engine.difference import Change, difference
from plan.engine.errors import SettingError
from plan.engine.stamp import PATH, Deployed, Stamp
from plan.engine.want import Component, File, Have, SeenPath, SeenUnit, Unit
from plan.health import (
    AGAIN_S,
    AUTHORITY_WARN_DAYS,
    CERTIFICATE_FAIL_DAYS,
    CERTIFICATE_WARN_DAYS,
    DISK_FAIL_MIB,
    DISK_WARN_MIB,
    EVERY_MINUTES,
    FOLDER,
    KEY_WARN_DAYS,
    OLD_MINUTES,
    SUCCESSOR_WARN_DAYS,
)
from plan.house.access_table import Row, parse_access
from plan.house.inventory import HostEntry, build_house
from plan.house.setting_values import EXPIRY_YEARS, HOURS, HOUSE_NAME_MOST
from plan.house.settings import SETTINGS
from plan.other_programs.check import ENGINES
from tasks import health
from tasks.engine.begin import NO_ANSWER
from tasks.renewal import PATIENCE

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
COMPONENTS = (
    "base",
    "firewall",
    "ca",
    "headscale",
    "tailscale",
    "devices",
    "ollama",
    "openclaw",
    "renewal",
    "backup",
    "health",
    "drift",
)

#: Ports that are on a page but in no row of the access table -> what they are.
OTHER_PORTS = {
    80: "Debian mirrors, the lab's internet, the port that Tailscale's clients are kept from",
    **dict.fromkeys((445, 2049, 3260, 4420), "servers of mounts and disks (docs/access-table.md)"),
    **dict.fromkeys((53, 853, 4460), "servers of names and time (docs/firewall.md, docs/other-programs.md)"),
    8080: "an example of a program or a container (docs/health.md, docs/other-programs.md)",
    8888: "the lab's package proxy, on the controller (lab/network.py)",
}


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def group_data() -> dict[str, Any]:
    return {name: value for name, value in runpy.run_path(str(ROOT / "group_data/all.py")).items() if name[0] != "_"}


def code_of(page: Path) -> list[str]:
    """The code on a page: whole blocks, and pieces between backticks."""
    text = text_of(page)
    blocks = re.findall(r"^ *```[a-z]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    without = re.sub(r"^ *```[a-z]*\n.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    .*", without, re.MULTILINE)
    return [*blocks, *indented, *re.findall(r"`([^`\n]+)`", without)]


def table_rows(page: Path, heading: str) -> Iterator[list[str]]:
    """The cells of the first table below a heading, without the two lines of its head."""
    below = text_of(page).split(f"## {heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert lines is not None
    for line in lines[0].splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def access_markdown(rows: tuple[Row, ...]) -> str:
    """The access table in the form of docs/access-table.md."""
    lines = ["| id | from | to | port | over | why |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| `{row.id}` | {row.source} | {row.target} | {row.port}/{row.protocol} | {row.over} | {row.why} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def ports_in(text: str) -> Iterator[int]:
    """Port numbers: NUMBER/tcp, ADDRESS:NUMBER, 'port NUMBER', 'ports NUMBER and NUMBER'."""
    for number in re.findall(r"\b(\d{1,5})/(?:tcp|udp)\b", text):
        yield int(number)
    for number in re.findall(r"(?:[a-z]\b|\d\.\d{1,3}|\])(?<!-\d):(\d{2,5})\b(?!:)", text):
        yield int(number)
    for first, second in re.findall(r"\b[Pp]orts? (\d{2,5})\b(?:(?:,| and) (\d{2,5})\b)?", text):
        yield from (int(number) for number in (first, second) if number)


def anchors_of(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_setting_stands_in_the_page_with_its_default() -> None:
    written = {row[0].strip("`"): row[1].strip("`") for row in table_rows(ROOT / "docs/settings.md", "The list")}
    assert written == {name: repr(default) for name, default in SETTINGS.items()}


def test_every_habit_of_a_lived_in_lab_stands_in_its_page() -> None:
    assert dict(table_rows(ROOT / "docs/lab.md", "Lived-in hosts")) == {
        f"`{name}`": what for name, what in HABITS.items()
    }


def test_limits_of_settings_stand_in_their_page() -> None:
    does = {row[0].strip("`"): row[3] for row in table_rows(ROOT / "docs/settings.md", "The list")}
    assert f"{HOUSE_NAME_MOST} at most" in does["house_name"]
    assert f"{EXPIRY_YEARS} years at most" in does["headscale_node_expiry"]
    assert all(f"`{unit}`" in does["headscale_node_expiry"] for unit in HOURS)


def test_group_data_ships_the_defaults() -> None:
    shipped = {name: value for name, value in group_data().items() if name != "access_table"}
    assert shipped == {name: SETTINGS.get(name, "unknown setting") for name in shipped}


def test_the_access_table_of_the_page_is_that_of_the_code() -> None:
    assert access_markdown(parse_access(group_data()["access_table"])) in text_of(ROOT / "docs/access-table.md")


def test_the_errors_that_pages_show_are_those_of_the_code() -> None:
    table: list[dict[str, str]] = group_data()["access_table"]
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("access-table", {"access_table": [{**row, "from": row["from"].rstrip("s")} for row in table]}),
        ("access-table", {"access_table": [{**row, "port": row["port"].removesuffix("/udp")} for row in table]}),
        ("troubleshooting", {"access_table": table, "house_domain": "home.local"}),
    ]
    groups = ("coordinator", "gateway", "model_hosts")
    for page, data in wrong:
        with pytest.raises(SettingError) as error:
            build_house([HostEntry("home", groups, {"ssh_hostname": "192.168.1.10", **data})], groups)
        assert f"\n{error.value.problems[0]}\n" in text_of(ROOT / f"docs/{page}.md")


def test_the_report_of_drift_that_its_page_shows_is_the_codes() -> None:
    here = Deployed("0e3d19f2c5aa", "aaaaaaaaaaaa", {"pyinfra": "3.10.0"})
    stamp = Stamp(replace(here, revision="4b1bf798184b"), datetime(2026, 11, 24, 22, 19, 52, tzinfo=UTC))
    rules = [f"{' ' * 4}# rule {number}" for number in range(53)]
    rules += ['    counter reject with icmpx admin-prohibited comment "egress"', "  }", "}", ""]
    file = File("/etc/private-ai/firewall.nft", "\n".join(rules), mode="0600", shown=True)
    unit = "private-ai-firewall.service"
    want = Component(files=(file,), units=(Unit(unit, inputs=(file.path,), reload=True), Unit("ollama.service")))
    have = Have(
        paths={file.path: SeenPath("regular file", "root", "root", "0600", 9, "f" * 64)},
        units={
            unit: SeenUnit("loaded", "active", "enabled", False, "b", "b"),
            "ollama.service": SeenUnit("loaded", "inactive", "enabled", False, "b", "b"),
        },
    )
    changes = difference(want, have).changes
    present = file.content + "# opened by hand\n"
    found = (
        Found("Firewall", changes[0], content_diff(changes[0], present)),
        Found("Firewall", changes[1]),
        Found("Ollama", changes[2]),
    )
    said = report([HostDrift("home", stamp, here, found), HostDrift("laptop", stamp, here, ())])
    page = text_of(ROOT / "docs/drift.md")
    assert "\n".join(line for _, line in said) in page
    assert PATH in page


def test_the_page_on_drift_has_the_keys_of_its_json_and_the_statuses() -> None:
    here = Deployed("0e3d19f2c5aa", "aaaaaaaaaaaa", {})
    stamp = Stamp(here, datetime(2026, 11, 24, tzinfo=UTC))
    page = text_of(ROOT / "docs/drift.md")
    shown = as_json([HostDrift("home", stamp, here, (Found("Base", Change("package curl")),))])
    assert [row[0].strip("`") for row in table_rows(ROOT / "docs/drift.md", "The JSON")] == list(shown)
    of_host = shown["hosts"]["home"]
    for key in (*of_host, *of_host["stamp"], *of_host["changes"][0]):
        assert f"`{key}`" in page, key
    assert f"\n| {NO_ANSWER} and more |" in page
    # The page names these files: their contents are shown although other accounts cannot read them.
    tasks = {path.name: path.read_text(encoding="utf-8").count("shown=") for path in (ROOT / "tasks").rglob("*.py")}
    assert {name: count for name, count in tasks.items() if count} == {"firewall.py": 1, "headscale.py": 1}


def test_the_limits_of_the_health_page_are_those_of_the_code() -> None:
    page = ROOT / "docs/health.md"
    rows = {row[0]: row[1:] for row in table_rows(page, "What it does")}
    failed = f"fewer than {CERTIFICATE_FAIL_DAYS}, or expired"
    warned = (
        f"fewer than {CERTIFICATE_WARN_DAYS} days left; {SUCCESSOR_WARN_DAYS} where a [successor](renewal.md) follows"
    )
    assert rows["certificates of servers"] == [warned, failed]
    assert rows["the authority's certificate"] == [f"fewer than {AUTHORITY_WARN_DAYS} days left", failed]
    assert rows["free at `/var/lib` and `/opt`"] == [f"below {DISK_WARN_MIB} MiB", f"below {DISK_FAIL_MIB} MiB"]
    assert rows["VPN"][0].endswith(f"the node's key ends within {KEY_WARN_DAYS} days")
    for words in (
        f"Every {EVERY_MINUTES} minutes each host",
        f"looked at again after {AGAIN_S} seconds",
        f"more than {OLD_MINUTES} minutes ago",
        f"`{health.HOOK}`",
        f"`{health.PROGRAM}`",
        f"`{FOLDER}`",
    ):
        assert words in text_of(page), words


def test_the_lifetimes_of_certificates_on_their_page_are_those_of_the_code() -> None:
    page = text_of(ROOT / "docs/ca.md")
    assert (
        f"| good for | {CA_DAYS // 365} years | {SERVER_DAYS} days, or as long as the authority, if that is less |"
        in page
    )
    assert f"by a run, when fewer than {RENEW_DAYS} days remain (half of its life)" in page
    renewal = text_of(ROOT / "docs/renewal.md")
    for words in (
        f"when fewer than {RENEW_DAYS} days are left",
        f"when fewer than {SWAP_DAYS} days are left",
        f"It begins {OVERLAP_DAYS} days before the end",
        f"| {2 * SERVER_DAYS - OVERLAP_DAYS} days after its certificate was made; "
        f"{RENEW_DAYS + SERVER_DAYS - OVERLAP_DAYS} days at least after any run |",
        f"waits for it for {PATIENCE // 60} minutes",
    ):
        assert words in renewal, words
    for other in ("docs/ca.md", "docs/quick-start.md", "docs/verification.md", "CHANGELOG.md"):
        assert not re.search(r"\b397 days|fewer than 30 days", text_of(ROOT / other)), other


def test_every_component_has_module_and_page() -> None:
    deployed = re.findall(r"^(?:    )?(\w+)\.deploy", (ROOT / "deploy.py").read_text(), re.MULTILINE)
    assert tuple(dict.fromkeys(deployed)) == COMPONENTS
    for name in COMPONENTS:
        assert (ROOT / f"tasks/{name}.py").is_file()
        assert (ROOT / f"docs/{name}.md").is_file()


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)\)", text_of(ROOT / "README.md")))
    assert linked == {name for name in NAMES if name.startswith("docs/")}


def test_pages_named_by_error_messages_exist() -> None:
    folders = ("plan", "facts", "operations", "tasks", "playbooks", "artifacts", "lab")
    sources = [source for folder in folders for source in (ROOT / folder).rglob("*.py")]
    assert sources
    for source in sources:
        for name in re.findall(r"docs/[\w-]+\.md", source.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{source.name} sends people to {name}"


def test_an_ollama_is_handed_over_by_the_commands_of_the_message() -> None:
    text = text_of(ROOT / "docs/other-programs.md")
    commands = text.split("## Ollama and its models")[1].split("```")[1].strip().splitlines()
    said = next(claim.instead for claim in CLAIMS if claim.name == "Ollama")
    assert len(commands) == 4 and "; ".join(commands[:-1]) in said
    # The message about the account says the same.
    assert commands[-1] == "userdel ollama"


def test_the_cases_of_the_page_are_those_of_the_code() -> None:
    cases = "\n".join(" ".join(row) for row in table_rows(ROOT / "docs/other-programs.md", "Case by case"))
    for word in (*(claim.name for claim in CLAIMS), *(f"`{name}`" for name in ACCOUNTS), *ENGINES, "ufw", "firewalld"):
        assert word in cases, word
    places = text_of(ROOT / "docs/other-programs.md")
    assert OTHER_STORES[0] in places and all(store.endswith("/.ollama/models") for store in OTHER_STORES)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w./-]+):", makefile, re.MULTILINE))
    for piece in code_of(page):
        for target in re.findall(r"(?:^|\s)make ([\w./-]+)", piece):
            assert target in targets, f"make {target}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT) and target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_of_the_repository_exist(page: Path) -> None:
    # Paths that git ignores, such as `reports`, exist only after some commands.
    ignored = {line.strip("/") for line in text_of(ROOT / ".gitignore").splitlines()}
    top = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - ignored
    for piece in re.findall(r"`([^`\n]+)`", text_of(page)):
        word = piece.split()[0].rstrip(":")
        # A run writes reports/, so a new clone does not have it.
        below_a_folder = "/" in word and word.split("/")[0] in top - {"reports"}
        if below_a_folder or re.fullmatch(r"[\w-]+\.py|Makefile|requirements.*", word):
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_ports_are_those_of_the_access_table(page: Path) -> None:
    known = {row.port for row in parse_access(group_data()["access_table"])} | OTHER_PORTS.keys()
    assert set(ports_in(text_of(page))) <= known


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_nothing_of_the_writers_machine(page: Path) -> None:
    # That of the container is the same everywhere.
    text = text_of(page).replace("/home/node", "")
    for word in ("/work/", "/tmp/", "/root/", "/home/"):
        assert word not in text, word


def test_ports_are_found_in_every_form() -> None:
    text = "22/tcp, `10.77.0.1:8888`, [::]:443, x.internal:18789/#t, ports 80 and 443, port 3478"
    assert sorted(ports_in(text)) == [22, 80, 443, 443, 3478, 8888, 18789]
    assert not list(ports_in("at 20:04, fd4c:4142:77::11, smollm2:135m, qwen3:14b, sha256:8dc183, 16384 tokens"))


def test_the_checks_that_prove_the_threat_model_exist() -> None:
    known = {
        f"{file.stem.removeprefix('test_')}.{name}"
        for file in (ROOT / "tests/verify").glob("test_*.py")
        for name in re.findall(r"^def test_(\w+)", file.read_text(), re.MULTILINE)
    }
    threats = text_of(ROOT / "docs/security.md").split("## Threats\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", threats)) - {"openclaw.json"}
    assert len(named) > 15
    assert named <= known
    rows = [line for line in threats.splitlines() if line.startswith("| **")]
    assert len(rows) == 8 and all(len(row.strip("|").split("|")) == 4 for row in rows)
