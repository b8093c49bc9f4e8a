from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.data.base import files_root
from toolkit.recipe import DataRecipe


def test_files_are_kept_in_the_cache_unless_the_recipe_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files_root(DataRecipe.model_validate({})) == tmp_path / "data"
    assert files_root(DataRecipe.model_validate({"root": "~/archives"})) == tmp_path / "archives"
