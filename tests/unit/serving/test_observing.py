from __future__ import annotations

from toolkit.serving.interface import Answered
from toolkit.serving.observing import Quiet


def test_it_takes_everything_and_says_nothing(capsys) -> None:
    quiet = Quiet()
    quiet.request(Answered("a", "1", "http", 1, None, 0.1))
    quiet.phase("a", "1", "queue", 0.1)
    quiet.batch("a", "1", 3, 0.1)
    quiet.predicted("a", "1", "cat", 0.5)
    quiet.queued("a", "1", 3)
    assert capsys.readouterr() == ("", "")
