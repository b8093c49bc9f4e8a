from pathlib import Path

import pytest
import torch

from toolkit.backbones import (
    Backbone,
    build_architecture,
    create_backbone,
    load_weights,
    save_weights,
    weights_available,
)
from toolkit.errors import BackboneError
from toolkit.files import sha256_file


def make(name: str, weights: str = "none", classes: int = 4, image_size: int | None = 32, seed: int = 0) -> Backbone:
    return create_backbone(name, weights=weights, classes=classes, image_size=image_size, seed=seed)


def same(first: Backbone, second: Backbone) -> set[str]:
    theirs = second.model.state_dict()
    return {name for name, tensor in first.model.state_dict().items() if torch.equal(tensor, theirs[name])}


def test_what_a_backbone_says_of_itself() -> None:
    backbone = make("resnet18", image_size=None)
    assert (backbone.name, backbone.image_size, backbone.weights) == ("torchvision:resnet18", 224, "random (seeded)")
    assert (backbone.interpolation, backbone.crop_fraction) == ("bilinear", 0.875)
    assert backbone.normalization.mean == (0.485, 0.456, 0.406)
    assert not backbone.model.training


def test_the_same_seed_gives_the_same_tensors() -> None:
    before = torch.get_rng_state()
    first = make("mobilenet_v3_small")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    second, third = make("mobilenet_v3_small"), make("mobilenet_v3_small", seed=1)
    assert same(first, second) == set(first.model.state_dict())
    assert not same(first, third) & {"features.0.0.weight", "classifier.3.weight"}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("squeezenet1_0", 32),
        ("vit_b_16", 32),
        ("mnasnet0_5", 32),
        ("googlenet", 32),
        ("inception_v3", 75),
        ("timm:vit_tiny_patch16_224", 32),
        ("timm:resnet18", 32),
    ],
)
def test_a_run_is_rebuilt_from_its_file(tmp_path: Path, name: str, size: int) -> None:
    backbone = make(name, image_size=size)
    save_weights(backbone.model, tmp_path / "model.safetensors")
    rebuilt = build_architecture(backbone.name, 4, size)
    assert not rebuilt.training
    load_weights(rebuilt, tmp_path / "model.safetensors")
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        expected = backbone.model(images)
        assert torch.equal(rebuilt(images), expected)
    assert expected.shape == (2, 4)
    assert backbone.model.train()(images).shape == (2, 4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file_keep_the_new_head(tmp_path: Path, suffix: str) -> None:
    trained = make("resnet18", classes=7, seed=5)
    path = tmp_path / f"trained{suffix}"
    if suffix == ".pth":
        torch.save(
            {
                "state_dict": {f"module.{name}": tensor for name, tensor in trained.model.state_dict().items()},
                "epoch": 1,
            },
            path,
        )
    else:
        save_weights(trained.model, path)
    backbone = make("resnet18", weights=str(path))
    assert backbone.weights == f"file trained{suffix}, SHA-256 {sha256_file(path)}"
    assert backbone.weights_license is None, "nobody said it"
    assert {name for name in trained.model.state_dict() if not name.startswith("fc.")} == same(backbone, trained) - {
        "fc.weight",
        "fc.bias",
    }
    assert torch.equal(backbone.model.fc.weight, make("resnet18").model.fc.weight)


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    save_weights(make("squeezenet1_0").model, tmp_path / "model.safetensors")
    with pytest.raises(
        BackboneError,
        match=r"model.safetensors do not fit ResNet: .*is missing.*and \d+ more\). Is it another architecture",
    ):
        make("resnet18", weights=str(tmp_path / "model.safetensors"))
    save_weights(make("vit_b_32", image_size=64).model, tmp_path / "vit.safetensors")
    with pytest.raises(
        BackboneError, match=r"conv_proj.weight is \[768, 3, 32, 32\], the model's is \[768, 3, 16, 16\]"
    ):
        make("vit_b_16", weights=str(tmp_path / "vit.safetensors"))


def test_position_embeddings_that_are_no_square(tmp_path: Path) -> None:
    torch.save({"encoder.pos_embedding": torch.zeros(1, 8, 768)}, tmp_path / "odd.pth")
    with pytest.raises(
        BackboneError, match=r"odd.pth do not fit torchvision:vit_b_16 \(ValueError: seq_length is not a perfect square"
    ):
        make("vit_b_16", weights=str(tmp_path / "odd.pth"))


@pytest.mark.parametrize("name", ["vit_b_16", "timm:test_vit"])
def test_a_vit_file_is_fitted_to_another_image_size(tmp_path: Path, name: str) -> None:
    trained = make(name, image_size=64)
    save_weights(trained.model, tmp_path / "vit.safetensors")
    backbone = make(name, weights=str(tmp_path / "vit.safetensors"), image_size=96)
    with torch.inference_mode():
        assert backbone.model(torch.zeros(1, 3, 96, 96)).shape == (1, 4)
    moved = set(backbone.model.state_dict()) - same(backbone, trained)
    assert moved == ({"encoder.pos_embedding"} if name == "vit_b_16" else {"pos_embed"})


def test_an_image_that_is_too_small_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(BackboneError, match="smallest size that works is 75"):
        create_backbone("inception_v3", weights="no/such/file.pth", classes=2, image_size=32, seed=0)


def test_build_architecture_refuses_a_size_too() -> None:
    with pytest.raises(BackboneError, match="torchvision:vit_b_16 cannot be built for images of 50 x 50"):
        build_architecture("vit_b_16", 2, 50)


def test_a_head_needs_a_class() -> None:
    with pytest.raises(BackboneError, match="at least 1 class"):
        make("resnet18", classes=0)


@pytest.mark.parametrize("call", [weights_available, lambda name: build_architecture(name, 2, 32), make])
def test_unknown_names(call: object) -> None:
    with pytest.raises(BackboneError, match="no backbone 'resnet_18'"):
        call("resnet_18")  # type: ignore[operator]  # one of three functions
