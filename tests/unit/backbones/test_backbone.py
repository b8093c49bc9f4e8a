from __future__ import annotations

import inspect

import pytest

from toolkit.backbones.backbone import Defaults, Source
from toolkit.backbones.registry import SOURCES, source


@pytest.mark.parametrize("prefix", SOURCES)
def test_every_source_of_models_implements_the_protocol(prefix: str) -> None:
    wanted = {name: member for name, member in vars(Source).items() if inspect.isfunction(member) and name[0] != "_"}
    assert len(wanted) == 8
    for name, member in wanted.items():
        parameters = list(inspect.signature(getattr(source(prefix), name)).parameters)
        assert parameters == list(inspect.signature(member).parameters)[1:], name


def test_images_reach_a_network_as_imagenet_has_them_unless_its_source_says_otherwise() -> None:
    plain = Defaults()
    assert (plain.image_size, plain.crop_fraction) == (224, 0.875)
    assert plain.normalization.mean == (0.485, 0.456, 0.406)
