"""What every registered format must do, whoever wrote it."""

from __future__ import annotations

import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from example_packages import example_format
from torch import nn

import toolkit
from tests.bundles import content_of
from toolkit.backbones.deployable import Deployable, TorchSession, input_contract
from toolkit.bundle.manifest import InputContract, Normalization
from toolkit.data.calibration import calibration_of_arrays
from toolkit.errors import BundleError, DeviceError, ExportError
from toolkit.formats.base import Calibration, Exported, ExportRequest, Format
from toolkit.formats.registry import complete, formats

NORMALIZATION = Normalization(mean=(0.48, 0.45, 0.40), std=(0.22, 0.23, 0.24))
METADATA = {"toolkit.labels": '["ä", "猫"]', "toolkit.run": "conformance"}
FORMATS = {**formats(), "onnx-gzip": complete(example_format())}
"""Those of toolkit, those that are installed here, and the example of a format of another package."""
NAMES = list(FORMATS)
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
    chosen = FORMATS[request.param]
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


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_over_mirror_images_is_in_the_artifact(name: str, tmp_path: Path) -> None:
    chosen = FORMATS[name]
    if (reason := chosen.unavailable()) is not None:
        pytest.skip(reason)
    contract, path = input_contract(NORMALIZATION, 12, 10), tmp_path / f"model{chosen.suffix}"
    deployable = Deployable(network(), NORMALIZATION, flip_test=True)
    asked = ExportRequest(contract.name, ("logits", "probabilities"), METADATA)
    images_for_it = calibration(contract) if chosen.calibrates else None
    made = chosen.export(deployable, torch.from_numpy(images(2)), path, asked, images_for_it)
    assert isinstance(made, Exported)
    session, alone = chosen.open(content_of(path), "cpu", 1), TorchSession(Deployable(network(), NORMALIZATION))
    for count in (1, 2, 5):
        pixels = images(count)
        both = [alone.run(each)["logits"] for each in (pixels, np.ascontiguousarray(pixels[:, :, ::-1]))]
        np.testing.assert_allclose(session.run(pixels)["logits"], sum(both) / 2, atol=TOLERANCES[chosen.precision])


def test_it_says_where_it_runs(exported: tuple[Format, Path]) -> None:
    chosen, path = exported
    session = chosen.open(content_of(path), "cpu", 2)
    assert (session.device, session.threads) == ("cpu", 2)
    assert any(character.isdigit() for character in session.engine)


def brightnesses(count: int) -> np.ndarray:
    """Images that no two calls can be taken for each other by: each batch has a brightness of its own."""
    noise = np.random.default_rng(count).integers(0, 64, (1 + count % 3, 12, 10, 3), dtype=np.uint8)
    return noise + np.uint8(12 * count)


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_at_the_same_time_give_what_each_gives_alone(
    exported: tuple[Format, Path], contract: InputContract, threads: int
) -> None:
    chosen, path = exported
    session = chosen.open(content_of(path), "cpu", threads)
    batches = [contract.encode(brightnesses(count)) for count in range(16)]
    alone = [session.run(batch)["logits"] for batch in batches]
    answers: dict[tuple[int, int], np.ndarray] = {}
    together = threading.Barrier(8)

    def caller(number: int) -> None:
        together.wait(30)
        for call in range(len(batches)):
            answers[number, call] = session.run(batches[(number + call) % len(batches)])["logits"]

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
    for each in callers:
        each.start()
    for each in callers:
        each.join(60)
    # Looked at when all calls are over: an answer in memory that another call writes into would be another one now.
    assert len(answers) == 8 * len(batches), "a call raised"
    for (number, call), logits in answers.items():
        np.testing.assert_allclose(logits, alone[(number + call) % len(batches)], atol=1e-6)


def test_its_facts_are_read_from_the_file(exported: tuple[Format, Path], contract: InputContract) -> None:
    chosen, path = exported
    facts = chosen.facts(path)
    assert dict(facts.metadata) == METADATA
    assert facts.producer
    if facts.inputs:
        assert facts.inputs == {contract.name: (contract.dtype, contract.shape)}


def contents(path: Path) -> Iterator[bytes]:
    """Return the bytes of a file, and of what is packed in it."""
    yield path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def test_no_file_names_a_folder_of_the_exporting_machine(exported: tuple[Format, Path]) -> None:
    _, path = exported
    folders = [Path.home(), Path.cwd(), Path(tempfile.gettempdir()), Path(toolkit.__file__).parents[1]]
    folders += [Path(sys.prefix), Path(sys.base_prefix), Path(torch.__file__).parents[1]]
    words = {f"{folder}/" for folder in folders} | {"site-packages", "torchinductor_"}
    for file in path.parent.iterdir():
        for content in contents(file):
            assert [word for word in words if word.encode() in content] == []


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
    chosen = FORMATS[name]
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
