"""What is refused before a data source is asked, and what it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from toolkit import data
from toolkit.data import Dataset, load_dataset
from toolkit.errors import DataError
from toolkit.progress import Reporter, Silent
from toolkit.recipe import DataRecipe


def test_a_split_that_there_is_not_is_named() -> None:
    with pytest.raises(DataError, match="there is no split 'dev': give train, validation, test"):
        load_dataset(DataRecipe(source="digits"), 0, splits=("train", "dev"))


def test_a_path_where_nothing_is_lists_what_a_source_can_be(tmp_path: Path) -> None:
    sentence = f"no data source '{tmp_path / 'nope'}': give 'cifar10', 'digits', .*there is none at that path"
    with pytest.raises(DataError, match=sentence):
        load_dataset(DataRecipe(source=str(tmp_path / "nope")), 0)


def test_the_source_is_asked_for_no_more_splits_than_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, Sequence[str], Reporter]] = []
    empty = Dataset("made-up", ("a",), {})

    class Listening:
        reads_path = False

        def load(self, recipe: DataRecipe, seed: int, splits: Sequence[str], reporter: Reporter) -> Dataset:
            asked.append((seed, splits, reporter))
            return empty

    monkeypatch.setattr(data, "require_source", lambda recipe: Listening())
    assert load_dataset(DataRecipe(source="made-up"), 7, splits=("test",)) is empty
    ((seed, splits, reporter),) = asked
    assert (seed, splits) == (7, ("test",))
    assert isinstance(reporter, Silent)
