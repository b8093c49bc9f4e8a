from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolkit.dependencies import import_optional, is_installed, require_for_training, why_not
from toolkit.errors import MissingDependencyError

MISSING = "engine is not installed: pip install engine"
Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return what installs a package ``engine`` whose import runs some code."""

    def write(code: str) -> None:
        (tmp_path / "engine").mkdir()
        (tmp_path / "engine" / "__init__.py").write_text(code)
        (tmp_path / "engine" / "part.py").write_text("answer = 42")

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in ("engine", "engine.part"):
        sys.modules.pop(name, None)


def test_what_is_installed_is_imported(install: Install) -> None:
    install("")
    assert is_installed("engine")
    assert import_optional("engine.part", MISSING).answer == 42
    assert why_not("engine", MISSING) is None


def test_what_is_not_installed_says_how_to_install_it() -> None:
    assert not is_installed("engine")
    assert why_not("engine", MISSING) == why_not("engine.part", MISSING) == MISSING
    with pytest.raises(MissingDependencyError, match=rf"^{MISSING}\.$"):
        import_optional("engine", MISSING)
    with pytest.raises(MissingDependencyError, match=r"^this needs engine, which is not installed: pip install '.*tra"):
        require_for_training("engine")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('libengine.so.1: cannot open shared object file')", "ImportError: libengine.so.1: cannot"),
        ("raise OSError('libcudart.so: invalid ELF header')", "OSError: libcudart.so: invalid ELF header"),
        ("raise RuntimeError('compiled against API version 0x10\\nmore')", "RuntimeError: compiled against API versi"),
        ("import no_such_package_below", "ModuleNotFoundError: No module named 'no_such_package_below'"),
        ("import engine.nothing", "ModuleNotFoundError: No module named 'engine.nothing'"),
        ("import os; os.nothing", "AttributeError: module 'os' has no attribute 'nothing'"),
        ("syntax error", "SyntaxError: "),
    ],
)
def test_what_is_installed_and_broken_is_not_called_missing(install: Install, code: str, reason: str) -> None:
    install(code)
    assert is_installed("engine")
    with pytest.raises(MissingDependencyError) as raised:
        import_optional("engine.part", MISSING)
    assert "engine is installed and cannot be imported" in str(raised.value)
    assert reason in str(raised.value)
    assert "not installed" not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_part_that_is_missing_is_a_broken_package(install: Install) -> None:
    install("")
    assert "No module named 'engine.wheel'" in str(why_not("engine.wheel", MISSING))


def test_the_empty_shell_of_a_package_is_named(install: Install, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    assert f"what is in {tmp_path / 'engine'} is an empty shell of it: remove that folder" in str(
        why_not("engine", MISSING)
    )


@pytest.mark.parametrize(
    "code",
    [
        "raise KeyboardInterrupt",
        # As C extensions do that are interrupted while they initialise themselves.
        "try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt as stop:\n    raise ImportError('init') from stop",
        "try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt:\n    raise RuntimeError('init')",
        "raise ImportError('KeyboardInterrupt: ')",
    ],
)
def test_ctrl_c_during_an_import_is_ctrl_c(install: Install, code: str) -> None:
    install(code)
    with pytest.raises(KeyboardInterrupt):
        why_not("engine", MISSING)


def test_nobody_else_takes_an_import_error_for_a_missing_package() -> None:
    handlers = [
        f"{path.relative_to(root)}:{node.lineno}"
        for root in [Path(__file__).parents[2] / "toolkit"]
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and node.type and "ImportError" in ast.unparse(node.type)
    ]
    # The helper itself, a Ctrl-C that became an ImportError, and 'fcntl' and 'resource', which only some systems have.
    allowed = ["cli/main.py", "dependencies.py", "files.py", "provenance.py"]
    assert [name.partition(":")[0] for name in sorted(handlers)] == allowed
