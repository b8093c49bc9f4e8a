"""Every module has its mirrored unit test, or stands here with the reason why not.

``toolkit/a/b.py`` is tested by ``tests/unit/a/test_b.py``; a package that defines functions or classes in its
``__init__.py``, ``toolkit/a/__init__.py``, by ``tests/unit/test_a.py``.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_RECORDS = "fields without behaviour: results/test_record.py has their base, bundle/test_schemas.py their JSON Schema"
UNTESTED = {
    "__main__.py": "one call: cli/test_start.py starts it",
    "bundle/schemas/__main__.py": "three lines of calls: bundle/test_schemas.py holds what they write",
    "cli/options.py": "declarations only: cli/test_help.py parses them with every command",
    "results/bench.py": _RECORDS,
    "results/comparison.py": _RECORDS,
    "results/evaluation.py": _RECORDS,
    "results/parity.py": _RECORDS,
    "results/provenance.py": _RECORDS,
    "results/quantization.py": _RECORDS,
    "serving/interface.py": "declarations only: what implements them is held against them by mypy",
}
"""Module to the reason why it has no test file of its own."""


def modules(package: Path) -> set[str]:
    """Every module that defines something, relative to the package."""
    return {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.name != "__init__.py" or _defines(path)
    }


def mirror(module: str) -> str:
    """The file that tests a module, relative to ``tests/unit``."""
    path = Path(module)
    if path.name != "__init__.py":
        return path.with_name(f"test_{path.name}").as_posix()
    parent = path.parent if path.parent.name else Path("toolkit")
    return parent.with_name(f"test_{parent.name}.py").as_posix()


def complaints(package: Path, tests: Path, untested: set[str]) -> list[str]:
    """What is wrong: a module with neither a test nor a reason, a reason for nothing."""
    known = modules(package)
    lacking = {module for module in known if not (tests / mirror(module)).is_file()}
    return [
        *(f"{module} has no {mirror(module)} and stands in no list" for module in sorted(lacking - untested)),
        *(f"{module} is in the list and does not exist" for module in sorted(untested - known)),
        *(f"{module} is in the list and has a test" for module in sorted(untested & (known - lacking))),
    ]


def _defines(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in tree.body)


def test_every_module_has_its_mirrored_test_or_a_reason() -> None:
    assert complaints(ROOT / "toolkit", ROOT / "tests" / "unit", set(UNTESTED)) == []


def test_every_reason_is_a_sentence() -> None:
    assert [module for module, reason in UNTESTED.items() if len(reason.split()) < 4] == []


@pytest.mark.parametrize(
    ("module", "test"),
    [
        ("errors.py", "test_errors.py"),
        ("bundle/trust/names.py", "bundle/trust/test_names.py"),
        ("bundle/schemas/__init__.py", "bundle/test_schemas.py"),
        ("testing/__init__.py", "test_testing.py"),
        ("__init__.py", "test_toolkit.py"),
    ],
)
def test_where_a_test_is_looked_for(module: str, test: str) -> None:
    assert mirror(module) == test


def test_what_is_missing_or_stale_is_named(tmp_path: Path) -> None:
    for file, content in {
        "toolkit/__init__.py": "from toolkit.a import b\n",
        "toolkit/tested.py": "x = 1\n",
        "toolkit/a/lonely.py": "x = 1\n",
        "toolkit/a/__init__.py": "def f(): ...\n",
        "unit/test_tested.py": "",
        "unit/test_a.py": "",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(content)
    package, tests = tmp_path / "toolkit", tmp_path / "unit"
    assert complaints(package, tests, set()) == ["a/lonely.py has no a/test_lonely.py and stands in no list"]
    assert complaints(package, tests, {"a/lonely.py"}) == []
    assert complaints(package, tests, {"a/lonely.py", "gone.py", "tested.py"}) == [
        "gone.py is in the list and does not exist",
        "tested.py is in the list and has a test",
    ]
