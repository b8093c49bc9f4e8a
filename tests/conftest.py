"""Fixtures that several test packages share.

A bundle small enough to make in milliseconds, with a real ONNX artifact.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.bundles import tune
from tests.once import made_once
from toolkit import provenance
from toolkit.bundle.manifest import ArtifactRecord, InputContract, Manifest, Normalization, Origin, OutputContract
from toolkit.bundle.writer import new_bundle, write_golden, write_manifest
from toolkit.files import sha256_file
from toolkit.preprocess import Preprocessing
from toolkit.telemetry import opt_out

# Several processes share the cores, and threads that wait for each other in a loop take the time of those that work.
# Set while this file is imported, because PyTorch, which the next conftest.py imports, looks at it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Some tests import engines themselves.
opt_out()

LABELS = ("blue", "green", "red")
SIZE = 8
FALLEN = pytest.StashKey[list[str]]()
"""What is known of processes of tests that fell."""
WEIGHTS = np.eye(3, dtype=np.float32)[::-1].copy() / 32


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their length: what gzip writes holds the second, and every worker must collect the same names."""
    return f"{argname}-of-{len(val)}" if isinstance(val, bytes) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Hand out the long tests first where several processes share them, and measure no coverage in exhaustive ones.

    What these run, a daily case of the same test has run; tracing the exporters would make them twice as long.
    """
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker("no_cover")  # pytest-cov pauses
    if hasattr(config, "workerinput"):
        long = ("exhaustive", "slow")
        items.sort(key=lambda item: not any(item.get_closest_marker(marker) for marker in long))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Note how a process of tests fell: xdist says only that it did, and in which test."""
    if error:
        try:
            how = f"ended with {node.gateway._io.popen.wait(timeout=10)}"
        except subprocess.TimeoutExpired:
            how = "hangs up, and still runs"
        node.config.stash.setdefault(FALLEN, []).append(f"process {node.gateway.id} of the tests {how}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(FALLEN, []):
        terminalreporter.write_line(line, red=True)


@pytest.fixture(autouse=True)
def no_coverage_in_processes_of_exhaustive_tests(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep coverage out of the processes that an exhaustive test starts."""
    if request.node.get_closest_marker("exhaustive"):
        for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def loggers_are_left_as_they_were() -> Iterator[None]:
    """Hold that no test leaves the logging of the program otherwise: another test would hear nothing, by chance."""
    loggers = [logging.getLogger(name) for name in ("", "toolkit")]
    before = [(logger.level, logger.propagate, logger.disabled) for logger in loggers]
    yield
    assert [(logger.level, logger.propagate, logger.disabled) for logger in loggers] == before


def colour_model(path: Path) -> None:
    """Write a classifier whose logits are the mean blue, green and red of an image, divided by 32."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("logits", "probabilities")],
        [numpy_helper.from_array(np.array([1, 2], np.int64), "axes"), numpy_helper.from_array(WEIGHTS, "weights")],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def colour_outputs(images: np.ndarray) -> dict[str, np.ndarray]:
    """Compute in numpy what ``colour_model`` computes."""
    logits = images.astype(np.float32).mean(axis=(1, 2)) @ WEIGHTS
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {
        "logits": logits.astype(np.float32),
        "probabilities": (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32),
    }


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests compute and export out of the user's own folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        # Shared by all processes of the tests, like the runs that one of them makes for all.
        patch.setenv("TOOLKIT_STATE", str(made_once(tmp_path_factory, "state", lambda _: None)))
        yield


@pytest.fixture(scope="session")
def colour_image() -> Callable[[str], np.ndarray]:
    """Return a maker of uint8 images ``[8, 8, 3]`` in the colour of a label."""

    def make(label: str) -> np.ndarray:
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        image[..., {"red": 0, "green": 1, "blue": 2}[label]] = 200
        return image

    return make


@pytest.fixture(scope="session")
def colour_manifest() -> Callable[[Path], Manifest]:
    """Return a maker of the manifest for a folder that holds ``model.onnx``."""

    def make(folder: Path) -> Manifest:
        model = folder / "model.onnx"
        return Manifest(
            name="colours",
            labels=LABELS,
            preprocessing=Preprocessing(height=SIZE, width=SIZE, resize="squash", interpolation="bilinear"),
            input=InputContract(
                name="images",
                dtype="uint8",
                shape=("N", SIZE, SIZE, 3),
                normalization=Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
                normalization_in_graph=True,
            ),
            outputs=(
                OutputContract(name="logits", shape=("N", 3), meaning="scores before softmax"),
                OutputContract(name="probabilities", shape=("N", 3), meaning="softmax of the logits"),
            ),
            artifacts=(
                ArtifactRecord(
                    format="onnx",
                    precision="float32",
                    file=model.name,
                    sha256=sha256_file(model),
                    size_bytes=model.stat().st_size,
                    opset=18,
                    ir_version=9,
                    producer="test",
                ),
            ),
            files={},
            evaluation=None,
            origin=Origin(
                run="colours",
                recipe='name = "colours"\n',
                backbone="test:colour",
                weights="none",
                model_sha256="0" * 64,
                data="made",
                data_fingerprints={"test": "0" * 64},
                provenance=provenance.collect(),
            ),
        )

    return make


@pytest.fixture
def colour_bundle(
    tmp_path: Path, colour_image: Callable[[str], np.ndarray], colour_manifest: Callable[[Path], Manifest]
) -> Path:
    """Return a complete bundle that tells red, green and blue images apart."""
    return write_colour_bundle(tmp_path / "colours" / "bundle", colour_image, colour_manifest)


@pytest.fixture
def tuned_bundle(colour_bundle: Path) -> Path:
    """Return such a bundle that was tuned on this machine (see ``bundles.tune``)."""
    tune(colour_bundle)
    return colour_bundle


@pytest.fixture(scope="session")
def colour_bundle_once(
    tmp_path_factory: pytest.TempPathFactory,
    colour_image: Callable[[str], np.ndarray],
    colour_manifest: Callable[[Path], Manifest],
) -> Path:
    """Return such a bundle that tests only read."""
    return write_colour_bundle(tmp_path_factory.mktemp("colours") / "bundle", colour_image, colour_manifest)


def write_colour_bundle(
    target: Path, colour_image: Callable[[str], np.ndarray], colour_manifest: Callable[[Path], Manifest]
) -> Path:
    """Write a complete bundle that tells red, green and blue images apart."""
    with new_bundle(target) as folder:
        colour_model(folder / "model.onnx")
        images = np.stack([colour_image(label) for label in LABELS])
        files = write_golden(
            folder, images, colour_outputs(images), [f"{label}.png" for label in LABELS], list(LABELS), LABELS
        )
        write_manifest(folder, colour_manifest(folder).model_copy(update={"files": files}))
    return target
