import subprocess
import sys

import pytest

from toolkit.backbones import canonical_name
from toolkit.backbones.registry import split_name
from toolkit.errors import BackboneError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("resnet18", "torchvision:resnet18"),
        ("torchvision:vgg11", "torchvision:vgg11"),
        ("tf_efficientnet_lite0", "timm:tf_efficientnet_lite0"),
        ("timm:resnet18", "timm:resnet18"),
        ("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
    ],
)
def test_a_bare_name_means_torchvision_first(given: str, expected: str) -> None:
    assert canonical_name(given) == expected
    assert canonical_name(expected) == expected


def test_a_misspelt_name_gets_close_names_from_both_sources() -> None:
    with pytest.raises(BackboneError, match=r"no backbone 'resnet81'.*torchvision:resnet18.*timm:resnet18"):
        canonical_name("resnet81")


@pytest.mark.parametrize(
    "name", ["timm:resnet18.no_such_tag", "torchvision:tf_efficientnet_lite0", "torchvision:fcn_resnet50", "xyzzy", ""]
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(BackboneError, match="no backbone"):
        canonical_name(name)


def test_an_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(BackboneError, match=r"starts with one of torchvision:, timm:"):
        canonical_name("hub:resnet18")


def test_split_name_gives_the_source_and_the_bare_name() -> None:
    canonical, source, bare = split_name("resnet18")
    assert (canonical, bare) == ("torchvision:resnet18", "resnet18")
    assert source.defaults(bare).image_size == 224


def test_a_torchvision_name_does_not_import_timm() -> None:
    program = (
        "import sys; from toolkit.backbones import canonical_name; canonical_name('resnet18'); sys.exit('timm' in "
        "sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
