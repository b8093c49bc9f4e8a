import pytest
import torch
from torch import nn

from toolkit.backbones.image_size import check_image_size, unseen_border
from toolkit.backbones.registry import source
from toolkit.errors import BackboneError, ImageSizeError

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


@pytest.mark.parametrize(
    ("name", "size", "sizes"),
    [
        ("eva02_tiny_patch14_224", 64, (56, 70)),
        ("test_convnext", 65, (64, 68)),
        ("test_vit", 161, (160, 176)),
    ],
)
def test_a_border_without_effect_is_refused_with_the_next_sizes(name: str, size: int, sizes: tuple[int, int]) -> None:
    with pytest.raises(ImageSizeError) as refused:
        check_image_size(source("timm"), name, size, f"timm:{name}")
    assert refused.value.sizes == sizes
    for works in sizes:
        check_image_size(source("timm"), name, works, f"timm:{name}")


def test_as_much_of_the_border_as_at_the_own_size_may_be_left_out() -> None:
    check_image_size(TORCHVISION, "squeezenet1_1", 32, "squeezenet1_1")
    check_image_size(TORCHVISION, "squeezenet1_1", 65, "squeezenet1_1")


class Looks(nn.Module):
    """Looks at the first rows and columns only, and hides not-a-number where it is told to."""

    def __init__(self, rows: int, columns: int, hides: bool = False, spoils: bool = False) -> None:
        super().__init__()
        self.rows, self.columns, self.hides, self.spoils = rows, columns, hides, spoils

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = images[:, :, : self.rows, : self.columns].mean(dim=(2, 3))
        if self.hides:
            seen = seen.nan_to_num()
        return seen / 0 if self.spoils else seen


@pytest.mark.parametrize(
    ("model", "unseen"),
    [
        (Looks(30, 30), 0),
        (Looks(29, 30), 1),
        (Looks(30, 28), 2),
        (Looks(30, 27), 3),
        (Looks(19, 22), 11),
        (Looks(1, 1), 29),
        (Looks(19, 22, hides=True), 0),
        (Looks(19, 22, spoils=True), 0),
    ],
)
def test_the_border_is_measured_to_the_pixel(model: nn.Module, unseen: int) -> None:
    assert unseen_border(model, 30) == unseen
