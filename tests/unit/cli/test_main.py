from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.cli.main import COMMANDS, INTERRUPTED
from toolkit.errors import ToolkitError

Run = Callable[..., tuple[int, str, str]]


def test_an_unknown_command_is_bad_input(run: Run) -> None:
    code, _, err = run("predcit")
    assert code == 2
    assert "predict" in err or "No such command" in err


def test_the_version(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("toolkit 0.")


def test_ctrl_c_is_130(run: Run, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("toolkit.bundle.Bundle.open", interrupt)
    code, _, err = run("inspect", colour_bundle)
    assert code == 130
    assert "stopped by Ctrl-C" in err


def test_help_lists_every_command_that_has_a_file(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    listed = {line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.startswith("  ")}
    assert set(COMMANDS) <= listed
    files = {path.stem for path in (Path(__file__).parents[3] / "toolkit" / "cli").glob("*.py")}
    assert set(COMMANDS) == files - {"__init__", "main", "console", "memory", "options", "recipe_flags"}


def test_bad_input_is_one_sentence_and_a_bug_shows_its_traceback(
    run: Run, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception) -> None:
        def opening(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("toolkit.bundle.Bundle.open", opening)

    fail(ToolkitError("the sentence."))
    assert run("inspect", colour_bundle) == (2, "", "toolkit: the sentence.\n")
    fail(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run("inspect", colour_bundle)


def test_ctrl_c_with_something_to_say(run: Run, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("stopped after epoch 3.")

    monkeypatch.setattr("toolkit.bundle.Bundle.open", interrupt)
    assert run("inspect", colour_bundle) == (INTERRUPTED, "", "\ntoolkit: stopped after epoch 3.\n")
