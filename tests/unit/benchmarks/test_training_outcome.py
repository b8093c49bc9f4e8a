from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from tiny_training import tiny_recipe, tiny_setting

from benchmarks import training_outcome
from benchmarks.harness.errors import BenchmarkError
from benchmarks.training_outcome import train
from toolkit.progress import Silent
from toolkit.recipe import Recipe
from toolkit.training.setting import Setting
from toolkit.training.trainer import Trainer


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the tiny network, whatever the recipe's is."""

    @contextmanager
    def prepared(recipe: Recipe, _: Silent) -> Iterator[Setting]:
        yield tiny_setting(recipe)

    monkeypatch.setattr(training_outcome, "prepared_setting", prepared)


@pytest.mark.parametrize("judging", ["validation", "test"])
def test_what_is_kept_is_judged_by_the_split_that_is_named(judging: str) -> None:
    split = tiny_setting(tiny_recipe()).dataset.split(judging)
    targets = split.targets
    outcome, again = train(tiny_recipe(), judging), train(tiny_recipe(), judging)
    assert outcome.names == split.names
    assert outcome.logits.shape == (len(targets), 2)
    assert np.array_equal(outcome.right, outcome.logits.argmax(axis=1) == targets)
    assert outcome.accuracy == outcome.right.sum() / len(targets)
    assert (outcome.epochs, outcome.head) == (3, None)
    assert outcome.cpu_seconds > 0
    assert np.array_equal(outcome.logits, again.logits)


def test_without_weights_to_keep_there_is_nothing_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "run", lambda _: None)
    with pytest.raises(BenchmarkError, match="no epoch ended with a usable validation accuracy"):
        train(tiny_recipe(), "test")
