from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
