from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from toolkit.cli.main import main


def verify(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["verify", *arguments])
    return int(left.value.code or 0)


def test_a_bundle_is_judged_and_the_records_go_where_they_are_asked_to(
    colour_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(str(colour_bundle), "--threads", "1", "--output", str(tmp_path / "ci"), "--quiet") == 0
    said = capsys.readouterr().out
    assert "colours: parity with its 3 golden samples passed" in said
    assert "labels: passed, 3 labels in their order" in said
    assert json.loads((tmp_path / "ci" / "parity.json").read_text())["passed"] is True
    assert (tmp_path / "ci" / "junit.xml").is_file()


def test_a_failed_gate_is_exit_code_1(colour_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = (
        "--tolerance",
        "logits_absolute=0",
        "--tolerance",
        "logits_relative=0",
        "--tolerance",
        "probabilities_absolute=0",
    )
    assert verify(str(colour_bundle), "--threads", "1", *limits, "--tolerance", "softmax_absolute=0", "--quiet") == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("BUNDLE", "--run", "OTHER"), "are not the same: give one of them"),
        (("BUNDLE", "--data", "photos"), "--data gives images for --against"),
        (("BUNDLE", "--bisect"), "--bisect needs what is right"),
        (("BUNDLE", "--tolerance", "logits_relative"), "'logits_relative' is not NAME=VALUE"),
        (("BUNDLE", "--tolerance", "atol=1"), "a tolerance has no atol"),
        (("nowhere",), "there is no nowhere"),
        (("BUNDLE", "--track", "mlflow"), "is a bundle: leave it out, or give the run"),
        (("BUNDLE", "--against", "OTHER", "--track", "mlflow"), "and --against is none"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    colour_bundle: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = shutil.copytree(colour_bundle, tmp_path / "other")
    names = {"BUNDLE": str(colour_bundle), "OTHER": str(other)}
    assert verify(*(names.get(text, text) for text in arguments)) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.strip().splitlines()) == 1
