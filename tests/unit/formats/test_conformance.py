"""What every registered format must do, whoever wrote it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.bundles import content_of
from toolkit.backbones.deployable import Deployable, TorchSession, input_contract
from toolkit.bundle.manifest import InputContract, Normalization
from toolkit.data.calibration import calibration_of_arrays
from toolkit.errors import BundleError, DeviceError, ExportError
from toolkit.formats.base import Calibration, Exported, ExportRequest, Format
from toolkit.formats.registry import formats

NORMALIZATION = Normalization(mean=(0.48, 0.45, 0.40), std=(0.22, 0.23, 0.24))
METADATA = {"toolkit.labels": '["ä", "猫"]', "toolkit.run": "conformance"}
NAMES = list(formats())
TOLERANCES = {"float32": 1e-5, "float16": 2e-3, "int8": 5e-2}
"""Largest difference of an output of order 1, by precision."""


class Network(nn.Module):
    """A convolution, a BatchNorm with statistics of its own, and a linear head: small, but every fusion applies."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Network()
        made.features[1].running_mean.normal_()
        made.features[1].running_var.uniform_(0.5, 2)
    return made.eval()


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 12, 10, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=["images", "tensor"])
def contract(request: pytest.FixtureRequest) -> InputContract:
    return input_contract(NORMALIZATION, 12, 10, request.param == "images")


def calibration(contract: InputContract) -> Calibration:
    """Noise, with the network's own answers as targets: any drop is the quantisation's."""
    pixels = images(64)
    reference = TorchSession(Deployable(network(), NORMALIZATION, contract.normalization_in_graph))
    return calibration_of_arrays(
        images(48), pixels, reference.run(contract.encode(pixels))["logits"].argmax(axis=1), contract.encode, 10
    )


@pytest.fixture(scope="module", params=NAMES)
def exported(
    request: pytest.FixtureRequest, contract: InputContract, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Format, Path]:
    chosen = formats()[request.param]
    if (reason := chosen.unavailable()) is not None:
        pytest.skip(reason)
    path = tmp_path_factory.mktemp("artifact") / f"model{chosen.suffix}"
    deployable = Deployable(network(), NORMALIZATION, contract.normalization_in_graph)
    asked = ExportRequest(contract.name, ("logits", "probabilities"), METADATA)
    images_for_it = calibration(contract) if chosen.calibrates else None
    made = chosen.export(deployable, torch.from_numpy(contract.encode(images(2))), path, asked, images_for_it)
    assert isinstance(made, Exported)
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, *(file.name for file in made.further_files)}
    return chosen, path


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_it_computes_what_pytorch_computes_at_any_batch_size(
    exported: tuple[Format, Path], contract: InputContract, batch: int
) -> None:
    chosen, path = exported
    reference = TorchSession(Deployable(network(), NORMALIZATION, contract.normalization_in_graph))
    inputs = contract.encode(images(batch))
    expected, actual = reference.run(inputs), chosen.open(content_of(path), "cpu", 1).run(inputs)
    assert set(actual) == {"logits", "probabilities"}
    for name, value in actual.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected[name], atol=TOLERANCES[chosen.precision])


def test_it_says_where_it_runs(exported: tuple[Format, Path]) -> None:
    chosen, path = exported
    session = chosen.open(content_of(path), "cpu", 2)
    assert (session.device, session.threads) == ("cpu", 2)
    assert any(character.isdigit() for character in session.engine)


def test_its_facts_are_read_from_the_file(exported: tuple[Format, Path], contract: InputContract) -> None:
    chosen, path = exported
    facts = chosen.facts(path)
    assert dict(facts.metadata) == METADATA
    assert facts.producer
    if facts.inputs:
        assert facts.inputs == {contract.name: (contract.dtype, contract.shape)}


def test_a_broken_file_is_a_clear_error(exported: tuple[Format, Path], tmp_path: Path) -> None:
    chosen, path = exported
    broken = tmp_path / path.name
    broken.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BundleError, match="refuses"):
        chosen.open(content_of(broken), "cpu", 1)


def test_an_unknown_device_is_a_clear_error(exported: tuple[Format, Path]) -> None:
    with pytest.raises(DeviceError, match="cannot run on 'abacus'"):
        exported[0].open(content_of(exported[1]), "abacus", 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_an_error_and_no_fallback(exported: tuple[Format, Path]) -> None:
    with pytest.raises(DeviceError, match="CUDA"):
        exported[0].open(content_of(exported[1]), "cuda", 1)


class Breaks(nn.Module):
    """A network that cannot be captured at all."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize("name", NAMES)
def test_a_network_that_cannot_be_exported_is_one_sentence(name: str, tmp_path: Path) -> None:
    chosen = formats()[name]
    if (reason := chosen.unavailable()) is not None:
        pytest.skip(reason)
    with pytest.raises(ExportError, match="cannot export this network"):
        chosen.export(
            Breaks().eval(),
            torch.zeros(2, 4, 4, 3),
            tmp_path / "model",
            ExportRequest("images", ("logits", "probabilities"), {}),
            None,
        )
