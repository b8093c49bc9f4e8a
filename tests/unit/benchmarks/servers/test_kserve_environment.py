from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.harness.environments import Environment
from benchmarks.servers.kserve_environment import KSERVE, VERSION, python_with_kserve


def test_kserve_has_an_environment_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Environment, "_make", lambda *_: None)
    assert python_with_kserve(tmp_path / "kserve") == tmp_path / "kserve" / "bin" / "python"
    assert f"kserve=={VERSION}" in KSERVE.packages
    # It has its own protobuf: what is beside it would be of another version.
    assert not KSERVE.beside_ours
