from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable, TorchSession, input_contract, output_contracts
from toolkit.bundle.manifest import Normalization
from toolkit.errors import DeviceError

NORMALIZATION = Normalization(mean=(0.5, 0.25, 0.125), std=(0.5, 0.25, 0.2))
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)


class Means(nn.Module):
    """Logits are the mean of each channel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def expected_logits() -> np.ndarray:
    scaled = (IMAGES / 255 - np.array(NORMALIZATION.mean)) / np.array(NORMALIZATION.std)
    return scaled.mean(axis=(1, 2))


def test_normalisation_is_before_and_softmax_behind_the_network() -> None:
    outputs = TorchSession(Deployable(Means(), NORMALIZATION)).run(IMAGES)
    np.testing.assert_allclose(outputs["logits"], expected_logits(), atol=1e-5)
    exponentials = np.exp(expected_logits())
    np.testing.assert_allclose(
        outputs["probabilities"], exponentials / exponentials.sum(axis=1, keepdims=True), atol=1e-5
    )
    assert {values.dtype for values in outputs.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("takes_images", [True, False])
def test_either_input_means_the_same_when_it_is_encoded_by_its_contract(takes_images: bool) -> None:
    contract = input_contract(NORMALIZATION, 4, 5, takes_images)
    session = TorchSession(Deployable(Means(), NORMALIZATION, takes_images))
    np.testing.assert_allclose(session.run(contract.encode(IMAGES))["logits"], expected_logits(), atol=1e-5)


def test_the_contracts_say_what_goes_in_and_comes_out() -> None:
    images, tensor = (input_contract(NORMALIZATION, 4, 5, takes_images) for takes_images in (True, False))
    assert (images.name, images.dtype, images.shape) == ("images", "uint8", ("N", 4, 5, 3))
    assert (tensor.name, tensor.dtype, tensor.shape) == ("tensor", "float32", ("N", 3, 4, 5))
    assert (images.normalization_in_graph, tensor.normalization_in_graph) == (True, False)
    assert [(output.name, output.shape) for output in output_contracts(7)] == [
        ("logits", ("N", 7)),
        ("probabilities", ("N", 7)),
    ]


def test_a_session_says_where_it_runs_and_refuses_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    session = TorchSession(Deployable(Means(), NORMALIZATION), threads=2, channels_last=True)
    assert (session.device, session.threads, session.engine) == ("cpu", 2, f"torch {torch.__version__}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="PyTorch sees no CUDA device"):
        TorchSession(Deployable(Means(), NORMALIZATION), "cuda")


class LeftHalf(nn.Module):
    """Logits are the mean of each channel of the left half, which a mirror image has on the right."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[..., : images.shape[3] // 2].mean(dim=(2, 3)) ** 2


@pytest.mark.parametrize("takes_images", [True, False])
def test_logits_are_the_mean_of_those_of_the_image_and_its_mirror_image(takes_images: bool) -> None:
    contract = input_contract(NORMALIZATION, 4, 5, takes_images)
    plain, both = (Deployable(LeftHalf(), NORMALIZATION, takes_images, flip) for flip in (False, True))
    images, mirrored = (TorchSession(plain).run(contract.encode(each)) for each in (IMAGES, IMAGES[:, :, ::-1]))
    outputs = TorchSession(both).run(contract.encode(IMAGES))
    logits = (images["logits"] + mirrored["logits"]) / 2
    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-6)
    assert not np.allclose(outputs["logits"], images["logits"])
    exponentials = np.exp(logits)
    np.testing.assert_allclose(outputs["probabilities"], exponentials / exponentials.sum(1, keepdims=True), rtol=1e-5)


def test_the_contract_says_that_mirror_images_are_averaged_and_what_it_costs() -> None:
    assert [output.meaning for output in output_contracts(7, flip_test=True)] == [
        "scores before softmax, the mean of those of the image and of its mirror image (each call computes 2 N images)",
        "softmax of the logits; each row sums to 1",
    ]
    assert output_contracts(7)[0].meaning == "scores before softmax"
