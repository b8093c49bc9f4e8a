from __future__ import annotations

from collections.abc import Callable

import pytest

from toolkit.cli.main import COMMANDS

Run = Callable[..., tuple[int, str, str]]


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]


def test_everyday_options_come_first_and_recipe_flags_by_section(run: Run) -> None:
    for command in ("finetune", "run"):
        text = run(command, "--help")[1]
        found = headings(text)
        assert found[0] == "Options:"
        assert found[-1] == "Recipe: export:"
        assert found.index("Where runs are:") < found.index("Recipe: data:") < found.index("Recipe: all stages:")
        everyday = text.partition("Options:")[2].partition("Where runs are:")[0]
        assert everyday.split()[0] == "--data"
        assert all(flag in everyday for flag in ("--backbone", "--device", "--threads", "--formats", "--help"))
        assert "--seed" not in everyday


def test_arguments_come_before_options_and_what_guards_against_strangers_last(run: Run) -> None:
    found = headings(run("verify", "--help")[1])
    assert found == ["Arguments:", "Options:", "Where runs are:", "Bundles from elsewhere:", "Seldom needed:"]


def test_what_stands_for_arguments_is_not_followed_by_a_type(run: Run) -> None:
    for command in ("push", "report", "predict"):
        assert "<list" not in run(command, "--help")[1]


def test_defaults_are_shown(run: Run) -> None:
    text = " ".join(run("finetune", "--help")[1].split())
    for words in (
        "[default: digits]",
        "[default: torchscript,onnx]",
        "Images per step. [default: 64]",
        "probability one half. [default: off]",
        "keep the result on disk. [default: on]",
        "(default: the backbone's own)",
    ):
        assert words in text
    assert "own). [default" not in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_fits_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, text, _ = run(command, "--help")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert "range>" not in text
