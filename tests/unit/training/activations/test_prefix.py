from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import SIZE, Listening, tiny_recipe, tiny_setting

from toolkit.backbones import set_trainable
from toolkit.backbones.frontier import divide_at_frontier
from toolkit.errors import ExportError
from toolkit.training.activations import prefix
from toolkit.training.activations.prefix import (
    OnnxPrefix,
    PrefixNetwork,
    TorchPrefix,
    from_stored,
    make_prefix,
    stored_shape,
)
from toolkit.training.setting import Setting

CPU = torch.device("cpu")


@pytest.fixture
def setting() -> Setting:
    return tiny_setting(tiny_recipe())


@pytest.fixture
def network(setting: Setting) -> PrefixNetwork:
    """The prefix of a network whose head alone is trained: one pooled vector crosses."""
    division = divide_at_frontier(setting.backbone, [set_trainable(setting.backbone, 1)])
    return PrefixNetwork(division, setting.backbone.normalization)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def expected(setting: Setting, images: np.ndarray) -> np.ndarray:
    """The stem, which is frozen while the body is trained, in channels-last order."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        maps = setting.backbone.model.get_submodule("stem").eval()((pixels - 0.5) / 0.25)
    return np.asarray(maps.permute(0, 2, 3, 1))


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_each_engine_computes_the_frozen_part(
    engine: str, setting: Setting, network: PrefixNetwork, images: np.ndarray
) -> None:
    computed = TorchPrefix(network, CPU, None) if engine == "torch" else OnnxPrefix(network, SIZE, threads=1)
    assert computed.engine.startswith(engine)
    (maps,) = computed.run(images, [0])
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected(setting, images), rtol=1e-4, atol=1e-5)


def test_a_network_in_training_mode_does_not_change_what_is_computed(
    setting: Setting, network: PrefixNetwork, images: np.ndarray
) -> None:
    computed = TorchPrefix(network, CPU, None)
    before = computed.run(images, [0])[0]
    setting.backbone.model.train()
    assert np.array_equal(computed.run(images, [0])[0], before)


def test_the_digest_knows_every_weight(setting: Setting, network: PrefixNetwork) -> None:
    before = network.digest()
    assert network.digest() == before
    with torch.no_grad():
        setting.backbone.model.get_parameter("fc.bias").add_(1)
    assert network.digest() == before
    with torch.no_grad():
        setting.backbone.model.get_parameter("stem.0.bias")[0] += 1e-6
    assert network.digest() != before


def test_feature_maps_are_kept_channels_last_and_come_back_as_they_were() -> None:
    assert stored_shape((6, 4, 5)) == (4, 5, 6)
    assert stored_shape((6,)) == (6,)
    maps = np.arange(2 * 4 * 5 * 6, dtype=np.float16).reshape(2, 4, 5, 6)
    tensor = from_stored(maps, CPU)
    assert tensor.shape == (2, 6, 4, 5)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(tensor.permute(0, 2, 3, 1).numpy(), maps)
    assert from_stored(np.ones((2, 6), np.float32), CPU).shape == (2, 6)


def test_what_onnxruntime_cannot_run_runs_in_pytorch_and_that_is_said(
    network: PrefixNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def __init__(self, *_: object) -> None:
            raise ExportError("no such operator\nand more")

    monkeypatch.setattr(prefix, "OnnxPrefix", Refusing)
    listening = Listening()
    assert isinstance(make_prefix(network, tiny_setting(tiny_recipe(), listening)), TorchPrefix)
    assert listening.lines == [
        "the frozen part runs in PyTorch, because onnxruntime cannot run it (ExportError: no such operator)"
    ]
