"""Which families are examined, and what becomes of the rows of the others."""

import pytest

from benchmarks import families
from benchmarks.harness.errors import BenchmarkError
from benchmarks.networks.catalogue import HEADS
from benchmarks.networks.finding import Finding


def test_rows_of_other_families_are_kept(tmp_path, monkeypatch):
    made = []

    def examined(family, name, formats, limits):
        made.append(family)
        return Finding(family, f"timm:{name or family}", cut="x 1", formats=dict.fromkeys(formats, ""))

    monkeypatch.setattr(families, "in_its_own_process", examined)
    monkeypatch.setattr(families, "families", lambda: {"a": ["a"], "b": ["b"]})
    assert families.benchmark(["--output", str(tmp_path)]) == 0
    assert made == ["a", "b", *HEADS]
    made.clear()
    assert families.benchmark(["--output", str(tmp_path), "--family", "b"]) == 0
    assert made == ["b"]
    text = (tmp_path / "families.md").read_text()
    assert "| a | a |" in text
    assert "| b | b |" in text
    assert "| no classifier | mobilenetv5_300m_enc |" in text


def test_a_family_that_is_none_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(families, "families", lambda: {"a": ["a"], "b": ["b"]})
    with pytest.raises(BenchmarkError, match="no family c: the families are a, b"):
        families.benchmark(["--output", str(tmp_path), "--family", "c"])
