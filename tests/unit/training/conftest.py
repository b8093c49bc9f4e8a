"""What tests of fine-tuning share."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.training.activations.prefix import TorchPrefix


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep activations in a folder of the test's own; return where they are."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run frozen parts in PyTorch: exporting one to ONNX takes seconds."""
    monkeypatch.setattr(
        "toolkit.training.activations.divided_network.make_prefix",
        lambda network, setting, _: TorchPrefix(network, setting.device, None),
    )
