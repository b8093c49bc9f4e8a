import pytest
from torch import nn

from toolkit.backbones.image_size import check_image_size
from toolkit.backbones.registry import source
from toolkit.errors import BackboneError

TORCHVISION = source("torchvision")


@pytest.mark.parametrize(
    ("name", "size", "smallest"),
    [("alexnet", 16, 63), ("vgg11", 31, 32), ("inception_v3", 74, 75), ("squeezenet1_0", 16, 21)],
)
def test_too_small_an_image_states_the_smallest_that_works(name: str, size: int, smallest: int) -> None:
    with pytest.raises(
        BackboneError,
        match=rf"torchvision:{name} cannot take images of {size} x {size} pixels .* smallest size that works is "
        rf"{smallest}, its own is",
    ):
        check_image_size(TORCHVISION, name, size, f"torchvision:{name}")
    check_image_size(TORCHVISION, name, smallest, f"torchvision:{name}")


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_b_16", 100, "multiple of 16: 96 or 112 works"),
        ("vit_b_16", 8, "multiple of 16: 16 works"),
        ("maxvit_t", 256, "multiple of 224: 224 or 448 works"),
    ],
)
def test_sizes_that_must_be_multiples(name: str, size: int, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        check_image_size(TORCHVISION, name, size, name)


@pytest.mark.parametrize(("name", "size"), [("resnet18", 16), ("vit_b_16", 32), ("swin_t", 32), ("maxvit_t", 448)])
def test_sizes_that_work(name: str, size: int) -> None:
    check_image_size(TORCHVISION, name, size, name)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("crossvit_9_240", 250, "Use its own size, 240"),
        ("hrnet_w18_small", 16, "Not every size works: 32 does, its own is 224"),
        ("test_vit", 161, "multiple of 16: 160 or 176 works"),
    ],
)
def test_timm_sizes_that_do_not_work(name: str, size: int, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        check_image_size(source("timm"), name, size, f"timm:{name}")


def test_nothing_is_claimed_of_a_network_that_cannot_run_without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: nn.Module, image_size: int) -> None:
        raise NotImplementedError("this operation needs data")

    monkeypatch.setattr("toolkit.backbones.image_size.dry_run", refuse)
    check_image_size(TORCHVISION, "alexnet", 16, "alexnet")
