from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.bundle import Bundle
from toolkit.bundle.writer import write_manifest
from toolkit.cli.console import output, reporter, telling_of_lost_signature
from toolkit.progress import Silent
from toolkit.progress.shown import Shown

Run = Callable[..., tuple[int, str, str]]


def test_a_signature_that_goes_is_told_of(
    run: Run, colour_bundle: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("sign", colour_bundle, "--key", "ours.private.pem")
    with telling_of_lost_signature(colour_bundle):
        pass
    assert capsys.readouterr().err == ""
    with telling_of_lost_signature(colour_bundle):
        write_manifest(colour_bundle, Bundle.open(colour_bundle).manifest)
    assert (
        "is no longer signed, because its manifest has changed: sign it again with 'toolkit sign'"
        in capsys.readouterr().err
    )
    with telling_of_lost_signature(colour_bundle):
        write_manifest(colour_bundle, Bundle.open(colour_bundle).manifest)
    assert capsys.readouterr().err == ""


def test_progress_goes_to_standard_error_and_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    reporter(quiet=False).line("[stage 1] " + "long " * 60)
    reporter(quiet=True).line("nothing")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [("[stage 1] " + "long " * 60)]


def test_quiet_is_silent() -> None:
    assert isinstance(reporter(quiet=True), Silent)
    assert isinstance(reporter(quiet=False), Shown)


def test_a_bar_away_from_a_terminal_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(quiet=False).bar("decoding", 3, unit="images") as bar:
        bar.advance(3, loss="0.12")
    assert capsys.readouterr() == ("", "")


def test_results_away_from_a_terminal_are_wide_enough_for_tables(capsys: pytest.CaptureFixture[str]) -> None:
    output().print("x" * 150)
    assert capsys.readouterr().out == "x" * 150 + "\n"
