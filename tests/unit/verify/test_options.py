from __future__ import annotations

import pytest

from toolkit import provenance
from toolkit.errors import RecipeError, ToolkitError
from toolkit.progress import Silent
from toolkit.verify.options import VerifyOptions


def test_threads_are_all_cores_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(provenance, "available_cores", lambda: 5)
    assert VerifyOptions().thread_count == 5
    assert VerifyOptions(threads=2).thread_count == 2


def test_no_threads_are_refused() -> None:
    with pytest.raises(RecipeError, match="0 threads cannot run anything"):
        VerifyOptions(threads=0)


def test_progress_goes_nowhere_unless_asked_for() -> None:
    assert isinstance(VerifyOptions().reporter, Silent)


def test_the_limit_in_pixels_is_a_count() -> None:
    with pytest.raises(ToolkitError, match="max_pixels is 0: give a whole number of 1 or more"):
        VerifyOptions(max_pixels=0)
