import time

import pytest

from toolkit.backbones import list_backbones, source_torchvision


def test_resnet18_is_described_quickly() -> None:
    next(list_backbones("resnet18"))
    start = time.process_time()
    (row,) = list_backbones("torchvision:resnet18")
    assert time.process_time() - start < 2, "it is walked with tensors that hold nothing"
    assert (row.name, row.parameters, row.image_size, row.default_cut) == (
        "torchvision:resnet18",
        11_689_512,
        224,
        "layer4",
    )
    assert 1.81 <= row.gmacs <= 1.82


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("mnasnet1*", ["torchvision:mnasnet1_0", "torchvision:mnasnet1_3"]),
        ("timm:tf_efficientnet_lite[01]", ["timm:tf_efficientnet_lite0", "timm:tf_efficientnet_lite1"]),
        ("tf_efficientnet_lite0", ["timm:tf_efficientnet_lite0"]),  # no match in torchvision
        ("nothing_like_it*", []),
        ("hub:resnet18", []),
    ],
)
def test_patterns(pattern: str, names: list[str]) -> None:
    assert [row.name for row in list_backbones(pattern)] == names


def test_all_of_torchvision_by_default() -> None:
    rows = list_backbones(None)
    first, second = next(rows), next(rows)
    assert [first.name, second.name] == [f"torchvision:{name}" for name in source_torchvision.names()[:2]]
    assert first.gmacs == pytest.approx(0.71, abs=0.01)
