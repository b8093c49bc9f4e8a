from __future__ import annotations

import pytest

from toolkit import provenance
from toolkit.bench.options import BenchOptions
from toolkit.errors import ToolkitError


def test_threads_are_all_cores_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(provenance, "available_cores", lambda: 5)
    assert BenchOptions().thread_count == 5
    assert BenchOptions(threads=2).thread_count == 2


@pytest.mark.parametrize("name", ["threads", "rounds", "accuracy_images"])
def test_counts_start_at_one(name: str) -> None:
    BenchOptions(**{name: 1})
    with pytest.raises(ToolkitError, match=f"{name} is 0: give a whole number of 1 or more"):
        BenchOptions(**{name: 0})


@pytest.mark.parametrize("sizes", [(), (1, 0), (1.5,), (True,)])
def test_batch_sizes_that_cannot_be_run_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ToolkitError, match="cannot be measured"):
        BenchOptions(batch_sizes=sizes)


def test_time_does_not_run_backwards() -> None:
    BenchOptions(min_seconds=0)
    with pytest.raises(ToolkitError, match=r"min_seconds is -0\.1"):
        BenchOptions(min_seconds=-0.1)


def test_rounds_and_time_have_an_end() -> None:
    BenchOptions(rounds=1000, max_seconds=86_400)
    with pytest.raises(ToolkitError, match=r"rounds is 1001: give 1000 or fewer\."):
        BenchOptions(rounds=1001)
    for seconds in (0, -1.0, 86_401, float("nan"), float("inf")):
        with pytest.raises(ToolkitError, match=r"max_seconds is .*: give more than 0 and at most 86400 seconds\."):
            BenchOptions(max_seconds=seconds)


@pytest.mark.parametrize("precision", [0.0, 1.0, -0.1, float("nan")])
def test_a_precision_is_a_share_or_none(precision: float) -> None:
    BenchOptions(precision=None)
    with pytest.raises(ToolkitError, match=r"precision is .*: give a share between 0 and 1"):
        BenchOptions(precision=precision)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_time_ends(seconds: float) -> None:
    with pytest.raises(ToolkitError, match="min_seconds is"):
        BenchOptions(min_seconds=seconds)
