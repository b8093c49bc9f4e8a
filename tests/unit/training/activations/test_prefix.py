from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from activation_caches import exported
from tiny_training import SIZE, Listening, tiny_recipe, tiny_setting
from torch import nn

from toolkit import provenance
from toolkit.backbones import set_trainable
from toolkit.backbones.frontier import divide_at_frontier
from toolkit.errors import ExportError
from toolkit.training.activations import prefix
from toolkit.training.activations.catalogue import prefix_root
from toolkit.training.activations.kept_prefix import KeptPrefix
from toolkit.training.activations.prefix import (
    OnnxPrefix,
    PrefixNetwork,
    TorchPrefix,
    export_prefix,
    from_stored,
    look_up,
    make_prefix,
    multiply_adds,
    stored_shape,
)
from toolkit.training.setting import Setting

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def much_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever little there is to compute is worth an export."""
    monkeypatch.setattr(prefix, "LITTLE_WORK", 0)


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
    computed = (
        TorchPrefix(network, CPU, None) if engine == "torch" else OnnxPrefix(export_prefix(network, SIZE), threads=1)
    )
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


def test_the_digest_knows_how_each_module_is_set(setting: Setting, network: PrefixNetwork) -> None:
    before = network.digest()
    stem = setting.backbone.model.get_submodule("stem")
    stem[1].eps *= 10  # the graph and the weights are what they were
    assert network.digest() != before


def test_what_onnxruntime_cannot_run_runs_in_pytorch_and_that_is_said(
    network: PrefixNetwork, kept: KeptPrefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise ExportError("no such operator\nand more")

    monkeypatch.setattr(prefix, "export_prefix", refuse)
    listening = Listening()
    assert isinstance(make_prefix(network, tiny_setting(tiny_recipe(), listening), kept), TorchPrefix)
    assert listening.lines == [
        "the frozen part runs in PyTorch, because onnxruntime cannot run it (ExportError: no such operator)"
    ]
    assert not prefix_root().exists()


@pytest.fixture
def kept(setting: Setting, network: PrefixNetwork, own_cache: Path) -> KeptPrefix:
    """Where the prefix belongs; nothing is there."""
    return look_up(setting, network, network.digest(), ["cut"])


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Have something exported in no time; returns what was."""
    done: list[nn.Module] = []

    def export(network: nn.Module, image_size: int) -> bytes:
        assert image_size == SIZE
        done.append(network)
        return exported()

    monkeypatch.setattr(prefix, "export_prefix", export)
    return done


def test_the_work_is_that_of_all_passes_over_the_images(network: PrefixNetwork) -> None:
    def work(**changes: Any) -> float:
        return multiply_adds(network, tiny_setting(tiny_recipe(**changes)))

    one = 4 * 4 * 4 * 3 * 9  # a convolution of 3 x 3, from 3 to 4 channels, on 4 x 4 positions
    assert work() == one * (18 + 6 + 2 * 4)
    assert work(augment__flip=True) == one * (4 * 18 + 6 + 2 * 4)
    drawn = work(augment__flip=True, cache__use=True, cache__views=2, cache__refresh=0.5, stage2__epochs=3)
    assert drawn == one * (2 * 18 + 3 * 9 + 6 + 2 * 4)


def test_an_export_has_to_pay_whatever_is_kept(
    setting: Setting,
    network: PrefixNetwork,
    kept: KeptPrefix,
    exports: list[nn.Module],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = multiply_adds(network, setting)
    monkeypatch.setattr(prefix, "LITTLE_WORK", work - 1)
    assert isinstance(make_prefix(network, setting, kept), OnnxPrefix)
    monkeypatch.setattr(prefix, "LITTLE_WORK", work)
    found = look_up(setting, network, network.digest(), ["cut"])
    assert found.model is not None
    assert isinstance(make_prefix(network, setting, found), TorchPrefix)
    assert exports == [network]


def test_what_was_exported_is_not_exported_again(
    setting: Setting, network: PrefixNetwork, kept: KeptPrefix, exports: list[nn.Module], images: np.ndarray
) -> None:
    first = make_prefix(network, setting, kept)
    found = look_up(setting, network, network.digest(), ["cut"])
    assert found.model == exported()
    second = make_prefix(network, setting, found)
    assert exports == [network]
    assert first.engine == second.engine == f"onnxruntime {onnxruntime.__version__}"
    assert np.array_equal(first.run(images, [0])[0], second.run(images, [0])[0])


def test_another_weight_setting_size_or_cut_is_another_prefix(
    setting: Setting, network: PrefixNetwork, kept: KeptPrefix, exports: list[nn.Module]
) -> None:
    make_prefix(network, setting, kept)
    digest = network.digest()
    larger = replace(setting, preprocessing=setting.preprocessing.model_copy(update={"height": 16, "width": 16}))
    assert look_up(larger, network, digest, ["cut"]).model is None
    assert look_up(setting, network, digest, ["elsewhere"]).model is None
    assert look_up(setting, network, digest).model is None
    with torch.no_grad():
        setting.backbone.model.get_parameter("stem.0.bias")[0] += 1e-6
    assert look_up(setting, network, network.digest(), ["cut"]).model is None
    assert look_up(setting, network, digest, ["cut"]).model is not None
    setting.backbone.model.get_submodule("stem")[1].eps *= 10
    assert look_up(setting, network, digest, ["cut"]).model is None


@pytest.mark.parametrize("engine", ["1.0.0", None])
def test_another_engine_or_none_is_another_prefix(
    engine: str | None,
    setting: Setting,
    network: PrefixNetwork,
    kept: KeptPrefix,
    exports: list[nn.Module],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_prefix(network, setting, kept)
    versions = provenance.package_versions(prefix.PACKAGES)
    others = {name: engine or version for name, version in versions.items() if engine or "onnxruntime" not in name}
    monkeypatch.setattr(provenance, "package_versions", lambda _: others)
    assert look_up(setting, network, network.digest(), ["cut"]).model is None


def test_what_the_engine_refuses_is_exported_again(
    setting: Setting, network: PrefixNetwork, kept: KeptPrefix, exports: list[nn.Module]
) -> None:
    kept.keep(exported("NoSuchOperator"))
    found = look_up(setting, network, network.digest(), ["cut"])
    assert isinstance(make_prefix(network, setting, found), OnnxPrefix)
    assert exports == [network]
    assert look_up(setting, network, network.digest(), ["cut"]).model == exported()
