from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from toolkit.api.arguments import names_of, path_of, require_known, text_of
from toolkit.errors import ToolkitError


def test_paths_are_texts_or_paths() -> None:
    assert path_of("root", "~/runs") == Path.home() / "runs"
    assert path_of("root", Path("runs")) == Path("runs")


@pytest.mark.parametrize("wrong", [5, None, b"runs", ["runs"], "a\0b"])
def test_what_is_no_path_is_said(wrong: Any) -> None:
    with pytest.raises(ToolkitError, match=r"^root cannot be .*: give a path") as refused:
        path_of("root", wrong)
    assert "\0" not in str(refused.value)


def test_texts() -> None:
    assert text_of("name", "mine", "'mine'") == "mine"
    assert text_of("recipe", Path("a.toml"), "'folder'") == "a.toml"


@pytest.mark.parametrize("wrong", [5, None, "", 20.5, b"mine"])
def test_what_is_no_text_is_said(wrong: Any) -> None:
    with pytest.raises(ToolkitError, match=r"^name cannot be .*: give a text such as 'mine'"):
        text_of("name", wrong, "'mine'")


def test_one_name_needs_no_list() -> None:
    assert names_of("track", "mlflow", "[]") == ("mlflow",)
    assert names_of("track", ["mlflow", "tensorboard"], "[]") == ("mlflow", "tensorboard")
    assert names_of("track", (), "[]") == ()


@pytest.mark.parametrize("wrong", [5, None, [1], {"mlflow"}])
def test_what_are_no_names_is_said(wrong: Any) -> None:
    with pytest.raises(ToolkitError, match=r"^track cannot be .*: give a list of names such as"):
        names_of("track", wrong, "['mlflow']")


def test_what_was_given_is_shown_in_brief() -> None:
    with pytest.raises(ToolkitError) as refused:
        path_of("root", list(range(10_000)))
    assert len(str(refused.value)) < 200


def test_an_option_that_there_is_not_is_named_with_those_there_are() -> None:
    require_known("Run.bench", ["rounds"], ["rounds", "sweep"])
    with pytest.raises(ToolkitError) as refused:
        require_known("Run.bench", ["round"], ["sweep", "rounds"])
    assert str(refused.value) == ("Run.bench has no option 'round' (did you mean rounds?): give one of rounds, sweep.")
