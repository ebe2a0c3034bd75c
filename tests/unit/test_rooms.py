"""The structure of the code: each layer has only a folder or file for each component, and for the shared parts."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import group_of
from tests.unit.test_docs import COMPONENTS

ROOT = Path(__file__).parents[2]
#: Layer -> the layers that it may import.
LAYERS: dict[str, set[str]] = {
    "plan": set(),
    "facts": {"plan"},
    "operations": {"plan", "facts"},
    "tasks": {"plan", "facts", "operations", "artifacts"},
}
#: Names besides the components: the house, other programs, the verification's expectations, the removal, restores,
#: upgrades, the engine.
OTHERS = {"house", "other_programs", "verification", "removal", "restore", "upgrade", "engine"}
#: A second module of a task.
BESIDE_A_TASK = {"ollama_model"}
#: The number of lines of a module, at most. Tests are not counted. A probe is always one file, because it is sent to a
#: host as a program.
MOST_LINES = 300
PROBE = "tests/verify/probes/network.py"
CODE = ("plan", "facts", "operations", "tasks", "artifacts", "lab", "playbooks", "bench", "tests/verify")


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_has_rooms_of_the_names_of_the_components_alone(layer: str) -> None:
    there = {path.stem for path in (ROOT / layer).iterdir() if not path.name.startswith("__")}
    accepted = {*COMPONENTS, *OTHERS, *(BESIDE_A_TASK if layer == "tasks" else ())}
    assert there <= accepted, f"{there - accepted} is no component; see docs/architecture.md#where-to-look"


def test_the_page_has_every_room() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("## Where to look")[1].split("\n## ")[0]
    rows = {
        name: dict(zip(LAYERS_OF_THE_PAGE, (cell.strip() for cell in cells.strip("|").split("|")), strict=True))
        for name, cells in re.findall(r"^\| \[?`(\w+)`[^|]*(\|.*\|)$", text, re.MULTILINE)
    }
    for layer in LAYERS:
        there = {path.stem for path in (ROOT / layer).iterdir() if not path.name.startswith("__")} - BESIDE_A_TASK
        assert there == {name for name, cells in rows.items() if cells[layer]}, layer


#: The columns of the table.
LAYERS_OF_THE_PAGE = ("tasks", "plan", "facts", "operations")


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_one_way(layer: str) -> None:
    known = {*LAYERS, "artifacts", "lab", "tests", "bench", "playbooks"} - LAYERS[layer] - {layer}
    for module in modules(layer):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.split(".")[0] not in known, f"{module.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("folder", CODE)
def test_modules_are_short(folder: str) -> None:
    long = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in modules(folder)}
    assert not {path: lines for path, lines in long.items() if lines > MOST_LINES and path != PROBE}


def test_the_recipes_name_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w]+\.py)`", text))
    # NAME and COMPONENT in a recipe stand for the name of a component.
    for path in sorted(named):
        if "NAME" in path or "COMPONENT" in path:
            assert any((ROOT / re.sub("NAME|COMPONENT", name, path)).exists() for name in COMPONENTS), path
        else:
            assert (ROOT / path).exists(), path
    assert len(named) > 20
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)`", text)) <= targets


def test_a_run_is_remembered_in_one_place() -> None:
    """No module keeps data of a run in a variable of its own."""
    found = []
    for module in (path for folder in ("plan", "facts", "operations", "tasks") for path in modules(folder)):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        found += [f"{module.relative_to(ROOT)}: global" for node in ast.walk(tree) if isinstance(node, ast.Global)]
        for node in tree.body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                value = node.value
                empty = ast.unparse(value) in ("{}", "[]", "dict()", "set()", "list()") if value else False
                if empty:
                    found.append(f"{module.relative_to(ROOT)}: line {node.lineno}")
    assert found == ["operations/engine/run.py: global"]


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("tests/unit/test_rooms.py::test_modules_are_short[lab]", "tests/unit"),
        ("tests/lab/test_house.py::test_the_verification_passes[single]", "single"),
        ("tests/lab/test_house.py::test_the_verification_passes[split]", "split"),
        ("tests/lab/test_breakages.py::test_a_breakage_is_caught_and_repaired[split-ollama.open]", "split"),
        ("tests/lab/test_breakages.py::test_a_breakage_is_caught_and_repaired[single-ollama.open]", "people"),
        ("tests/lab/test_lived_in.py::test_a_household_follows_the_quick_start[split-1]", "lived-in"),
        ("tests/lab/test_gateways.py::test_a_second_run_changes_nothing", "pair"),
    ],
)
def test_tests_that_share_a_lab_are_in_one_group(test: str, group: str) -> None:
    assert group_of(test) == group
