from __future__ import annotations

import pytest

from toolkit.progress import Reporter, Silent


def test_silence_takes_everything_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reporter: Reporter = Silent()
    reporter.line("epoch 1")
    with reporter.bar("decoding", 3, unit="images") as bar:
        bar.advance()
        bar.advance(2, loss="0.12")
    assert capsys.readouterr() == ("", "")


def test_an_error_under_a_bar_is_not_swallowed() -> None:
    with pytest.raises(ValueError, match="of the stage"), Silent().bar("decoding", 3, unit="images"):
        raise ValueError("of the stage")
