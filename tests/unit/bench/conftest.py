"""What the tests of the benchmark stage share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from toolkit.bench.inputs import Inputs
from toolkit.bench.rows import Plan
from toolkit.bundle.manifest import InputContract, Normalization
from toolkit.preprocess import Preprocessing

IMAGES, SIDE = 20, 4
CONTRACT = InputContract(
    name="images",
    dtype="uint8",
    shape=("N", SIDE, SIDE, 3),
    normalization=Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    normalization_in_graph=True,
)


class FakeSplit:
    """Image i is filled with the value i.

    Its class is ``i % 10``, but for the first 5 images, where it is another one.
    """

    fingerprint = "f" * 64
    max_pixels = 1000

    def __init__(self, count: int = IMAGES) -> None:
        self.sources = [np.full((SIDE, SIDE, 3), index, np.uint8) for index in range(count)]
        self.targets = np.arange(count, dtype=np.int64) % 10
        self.targets[:5] += 1
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return len(self.targets)

    def load(self, indices: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        self.loaded.append(len(indices))
        pixels = np.zeros((len(indices), preprocessing.height, preprocessing.width, 3), np.uint8)
        pixels[:] = np.asarray(indices, np.uint8)[:, None, None, None]
        return pixels


@dataclass
class FakeClock:
    """Time stands still until somebody moves it."""

    time: float = 100.0
    computed: float = 0.0
    """Processor time."""

    def now(self) -> float:
        return self.time

    def processor(self) -> float:
        return self.computed


class Lines:
    """A reporter that keeps its lines and counts its bars."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: dict[str, list[int]] = {}

    def line(self, text: str) -> None:
        self.lines.append(text)

    def bar(self, description: str, total: int, unit: str):
        done = self.bars.setdefault(description, [total, 0])

        class Counting:
            def __enter__(self):
                return self

            def __exit__(self, *details: object) -> None:
                return None

            def advance(self, steps: int = 1, **fields: str) -> None:
                done[1] += steps

        return Counting()


@pytest.fixture
def contract() -> InputContract:
    return CONTRACT


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def split() -> FakeSplit:
    return FakeSplit()


@pytest.fixture
def preprocessing() -> Preprocessing:
    return Preprocessing(height=SIDE, width=SIDE, resize="squash", interpolation="bilinear")


@pytest.fixture
def inputs(tmp_path: Path, split: FakeSplit, preprocessing: Preprocessing) -> Inputs:
    folder = tmp_path / "inputs"
    folder.mkdir()
    result = Inputs(folder, folder / "images.npy", folder / "targets.npy", len(split))
    np.save(result.images, split.load(np.arange(len(split)), preprocessing))
    np.save(result.targets, split.targets)
    return result


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let workers find the fake sessions; returns the factory."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "fakes"))
    return "bench_fake_sessions:open_fake"


@pytest.fixture
def plan(fakes: str):
    """Make a plan of a fake row."""

    def make(name: str = "fake", device: str = "cpu", refused: str | None = None, **arguments: object) -> Plan:
        return Plan(
            name=name,
            file=f"model.{name}",
            sha256="a" * 64,
            size_bytes=123,
            device=device,
            factory=fakes,
            arguments={"device": device, "threads": 1, **arguments},
            refused=refused,
        )

    return make
