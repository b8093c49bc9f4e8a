from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable, TorchSession, input_contract
from toolkit.bundle.content import Content
from toolkit.bundle.manifest import Normalization
from toolkit.errors import ExportError
from toolkit.formats.onnx import OnnxFormat
from toolkit.verify.reference_onnx import fresh_export

NORMALIZATION = Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
HEIGHT, WIDTH = 6, 10


def deployable(takes_images: bool = True) -> Deployable:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return Deployable(model, NORMALIZATION, takes_images).eval()


@pytest.mark.parametrize("takes_images", [True, False])
def test_it_is_the_network_in_a_file_that_goes_when_the_block_ends(takes_images: bool) -> None:
    contract = input_contract(NORMALIZATION, HEIGHT, WIDTH, takes_images)
    images = contract.encode(np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8))
    with fresh_export(deployable(takes_images), contract, None) as path:
        logits = OnnxFormat().open(Content.of(path), "cpu", 1).run(images)["logits"]
    assert not path.parent.exists()
    np.testing.assert_allclose(logits, TorchSession(deployable(takes_images)).run(images)["logits"], atol=1e-5)


def test_it_has_the_opset_that_is_asked_for() -> None:
    with fresh_export(deployable(), input_contract(NORMALIZATION, HEIGHT, WIDTH), 20) as path:
        assert OnnxFormat().facts(path).opset == 20


def test_a_network_that_cannot_be_exported_is_one_sentence() -> None:
    class Breaks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError

    with (
        pytest.raises(ExportError, match="cannot export this network"),
        fresh_export(Deployable(Breaks(), NORMALIZATION), input_contract(NORMALIZATION, HEIGHT, WIDTH), None),
    ):
        pass
