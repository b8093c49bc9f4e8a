"""Training on kept activations is the same arithmetic as training on images.

Every step's loss and the final weights are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from daily import daily
from sklearn.datasets import load_digits

from toolkit.backbones import create_backbone, save_weights
from toolkit.recipe import Recipe, load_recipe
from toolkit.run_folder import RunFolder
from toolkit.training.activations import prefix
from toolkit.training.activations.catalogue import cache_root, entries, prefix_root
from toolkit.training.activations.cleaning import clear
from toolkit.training.activations.prefix import export_prefix
from toolkit.training.meter import Step
from toolkit.training.stage import finetune_run

pytestmark = pytest.mark.slow

MODELS = {
    "resnet18": (32, 1),
    "densenet121": (32, 1),
    "inception_v3": (75, 2),
    "mobilenet_v2": (32, 3),
    "timm:vit_tiny_patch16_224": (32, 2),
    "timm:tf_efficientnet_lite0": (32, 2),
}
"""Side in pixels, and blocks to unfreeze in stage 2."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))


def recipe(model: str, **changes: Any) -> Recipe:
    size, unfreeze = MODELS[model]
    return load_recipe("digits").override(
        {
            "backbone.name": model,
            "backbone.weights": "none",
            "backbone.image_size": size,
            "data.train_limit": 72,
            "data.test_limit": 20,
            "train.batch_size": 16,
            "train.threads": 1,
            "train.precision": "float32",
            "stage1.epochs": 2,
            "stage2.epochs": 2,
            "stage1.optimizer": "sgd",
            "stage2.optimizer": "sgd",
            "stage1.head_lr": 0.001,
            "stage2.head_lr": 0.001,
            "stage2.backbone_lr": 0.0001,
            "stage2.unfreeze": unfreeze,
            "cache.dtype": "float32",
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
    )


def calibrated(model: str, folder: Path) -> str:
    """Write random weights whose BatchNorm statistics are those of some images.

    Without, activations grow from layer to layer.
    """
    size, _ = MODELS[model]
    network = create_backbone(model, weights="none", classes=10, image_size=size, seed=0).model.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean over the batches seen
    with torch.no_grad():
        pictures = torch.from_numpy(load_digits().images[:64] / 8 - 1).float().unsqueeze(1).expand(-1, 3, -1, -1)
        network(torch.nn.functional.interpolate(pictures, (size, size), mode="bicubic"))
    path = folder / "start.safetensors"
    save_weights(network, path)
    return str(path)


def weights(run: RunFolder) -> dict[str, Any]:
    return safetensors.torch.load_file(run.model_file)


@pytest.mark.parametrize(
    ("model", "engine", "relative"),
    daily(
        [*((model, "torch", 1e-5) for model in MODELS), *((model, "onnxruntime", 2e-4) for model in MODELS)],
        ("resnet18", "torch", 1e-5),
        ("resnet18", "onnxruntime", 2e-4),
    ),
)
def test_every_loss_and_the_final_weights_are_those_of_training_on_images(
    model: str, engine: str, relative: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In PyTorch the frozen part rounds as training on images does.

    Onnxruntime adds in another order, and training carries that on.
    """
    if engine == "onnxruntime":
        monkeypatch.setattr(prefix, "LITTLE_WORK", 0)
    start = calibrated(model, tmp_path)
    with_cache: list[float] = []
    cached = finetune_run(
        recipe(model, backbone__weights=start),
        name="cached",
        root=tmp_path,
        on_step=lambda step: with_cache.append(step.loss),
    )
    assert [entry.key.engine.split()[0] for entry in entries(cache_root()) if entry.key] == [engine] * 2
    on_images: list[float] = []
    plain = finetune_run(
        recipe(model, backbone__weights=start, cache__use=False),
        name="plain",
        root=tmp_path,
        on_step=lambda step: on_images.append(step.loss),
    )
    assert len(with_cache) == len(on_images) == 16
    assert with_cache == pytest.approx(on_images, rel=relative)
    ours, theirs = weights(cached), weights(plain)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert (ours[name].float() - tensor.float()).abs().max() <= relative * (1 + tensor.float().abs().max()), name
    assert cached.evaluation().top1 == pytest.approx(plain.evaluation().top1)


def test_a_second_run_takes_what_the_first_one_computed(tmp_path: Path) -> None:
    first = finetune_run(recipe("resnet18", cache__dtype="float16"), name="first", root=tmp_path)
    kept = {entry.digest for entry in entries(cache_root())}
    second = finetune_run(recipe("resnet18", cache__dtype="float16"), name="second", root=tmp_path)
    assert {entry.digest for entry in entries(cache_root())} == kept
    assert second.record().model_sha256 == first.record().model_sha256
    other = finetune_run(recipe("resnet18", cache__dtype="float16", seed=1), name="other", root=tmp_path)
    assert other.record().model_sha256 != first.record().model_sha256
    assert len(entries(cache_root())) == 4


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count what is exported, however few the images are; returns the image size of each."""
    monkeypatch.setattr(prefix, "LITTLE_WORK", 0)
    done: list[int] = []

    def export(network: torch.nn.Module, image_size: int) -> bytes:
        done.append(image_size)
        return export_prefix(network, image_size)

    monkeypatch.setattr(prefix, "export_prefix", export)
    return done


def test_the_frozen_part_is_exported_once(tmp_path: Path, exports: list[int]) -> None:
    first = finetune_run(recipe("resnet18"), name="first", root=tmp_path)
    assert len(exports) == 1
    clear(cache_root(), None)  # the second run computes its activations with what was kept
    second = finetune_run(recipe("resnet18"), name="second", root=tmp_path)
    assert len(exports) == 1
    assert second.record().model_sha256 == first.record().model_sha256
    with pytest.raises(KeyboardInterrupt):
        finetune_run(recipe("resnet18"), name="stopped", root=tmp_path, on_step=_stop_in_the_second_stage)
    resumed = finetune_run(recipe("resnet18"), name="stopped", root=tmp_path, resume=True)
    assert len(exports) == 1
    assert resumed.record().model_sha256 == first.record().model_sha256
    (kept,) = prefix_root().iterdir()
    content = bytearray((kept / "prefix.onnx").read_bytes())
    content[len(content) // 2] ^= 4
    (kept / "prefix.onnx").write_bytes(content)
    third = finetune_run(recipe("resnet18"), name="third", root=tmp_path)
    assert len(exports) == 2
    assert third.record().model_sha256 == first.record().model_sha256
    finetune_run(recipe("resnet18", seed=1), name="other", root=tmp_path)
    assert len(exports) == 3


def _stop_in_the_second_stage(step: Step) -> None:
    if (step.stage, step.epoch) == (2, 1):
        raise KeyboardInterrupt


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_cache_is_computed_again_and_never_used(damage: str, tmp_path: Path) -> None:
    first = finetune_run(recipe("resnet18"), name="first", root=tmp_path)
    for path in cache_root().glob("*/*.bin"):
        content = bytearray(path.read_bytes())
        if damage == "cut":
            del content[-10:]
        else:
            content[len(content) // 3] ^= 4
        path.write_bytes(content)
    lines: list[str] = []

    class Listening:
        """Keeps what is said."""

        def __init__(self) -> None:
            from toolkit.progress import Silent

            self.bar = Silent().bar

        def line(self, text: str) -> None:
            lines.append(text)

    second = finetune_run(recipe("resnet18"), name="second", root=tmp_path, reporter=Listening())
    assert len([line for line in lines if "computed again" in line]) == 2
    assert second.record().model_sha256 == first.record().model_sha256


def test_a_cache_that_does_not_fit_is_said_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = finetune_run(recipe("resnet18", cache__use=False), name="plain", root=tmp_path)
    monkeypatch.setattr("toolkit.training.activations.extraction.free_bytes", lambda folder: 1000)
    without = finetune_run(recipe("resnet18"), name="without", root=tmp_path)
    assert without.record().model_sha256 == plain.record().model_sha256
    assert entries(cache_root()) == []


def test_a_network_that_cannot_be_cut_is_trained_on_images(tmp_path: Path) -> None:
    run = finetune_run(
        recipe("resnet18", stage1__epochs=0, stage2__unfreeze=5, stage2__epochs=1), name="whole", root=tmp_path
    )
    assert run.record().stages[0].trained[0] == "stem"
    assert entries(cache_root()) == []


def test_views_are_drawn_anew_in_each_epoch(tmp_path: Path) -> None:
    run = finetune_run(
        recipe("resnet18", augment__flip=True, augment__shift=0.1, augment__mixup=0.2, cache__views=3),
        name="views",
        root=tmp_path,
    )
    rows = sorted(entry.rows or 0 for entry in entries(cache_root()))
    validation = run.record().data.splits["validation"].images
    assert rows == [validation, 3 * run.record().data.splits["train"].images]


def test_a_stage_that_freezes_again_what_an_earlier_one_trained_has_a_cache_of_its_own(
    tmp_path: Path,
) -> None:
    changes = {"stage1__unfreeze": 2, "stage2__unfreeze": 1}
    with_cache: list[float] = []
    cached = finetune_run(
        recipe("resnet18", **changes),
        name="cached",
        root=tmp_path,
        on_step=lambda step: with_cache.append(step.loss),
    )
    on_images: list[float] = []
    finetune_run(
        recipe("resnet18", **changes, cache__use=False),
        name="plain",
        root=tmp_path,
        on_step=lambda step: on_images.append(step.loss),
    )
    assert len(with_cache) == 16
    assert with_cache == pytest.approx(on_images, rel=1e-4)
    assert len(entries(cache_root())) == 4
    assert cached.record().best_epoch > 0
