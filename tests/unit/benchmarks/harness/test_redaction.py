"""What a report shows of a command line."""

import pytest

from benchmarks.harness.redaction import shown


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("/home/x/w.pt", ".../w.pt"),
        ("--weights=/home/x/w.pt", "--weights=.../w.pt"),
        ("a/b", "a/b"),
        ("--seed=1", "--seed=1"),
    ],
)
def test_absolute_paths_are_not_shown(argument, expected):
    assert shown(argument) == expected
