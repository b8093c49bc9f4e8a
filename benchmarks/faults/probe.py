"""Whether a fault is one: how far it moves an output."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch

from benchmarks.faults.around import Outputs
from benchmarks.faults.fault import NotApplicableError
from toolkit.backbones.deployable import Deployable
from toolkit.bundle.content import Content
from toolkit.bundle.manifest import InputContract
from toolkit.data.of_run import load_test_split
from toolkit.formats.registry import get_format
from toolkit.progress import Silent
from toolkit.run_folder import FinishedRun, RunFolder
from toolkit.verify.inputs import draw, make_inputs

PROBES = 32
"""Test images on which a broken network is compared with the right one, beside the edge inputs of ``toolkit
verify``."""
ALONE = 4
"""Of these, how many are run on their own as well: some faults show only there."""


class Probe:
    """A right network and some images: how far another network is from it, in float64, where rounding hides nothing."""

    def __init__(self, right: Deployable, images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
        """Take a network and uint8 images ``[n, H, W, 3]``."""
        self._images = torch.from_numpy(images)
        self._exact = self._run(copy.deepcopy(right).double())
        self.rounding = self._distance(self._exact, self._run(right))
        """How far PyTorch in float32 is from float64: less cannot be told from an output by anybody."""

    @classmethod
    def of_run(cls, run: RunFolder, right: Deployable) -> Probe:
        """Take test images and edge inputs as ``toolkit verify`` does."""
        finished = FinishedRun.of(run)
        seed = finished.recipe.seed
        test = load_test_split(finished, Silent())
        drawn = draw(test.targets, PROBES, seed)
        names = tuple(test.names[index] for index in drawn)
        return cls(right, make_inputs(names, test.load(drawn, finished.record.preprocessing), seed).images)

    def effect(self, broken: torch.nn.Module) -> float:
        """Return the largest change of an output, of the largest logit of its row; infinite where it is not finite.

        Raises:
            NotApplicableError: it is no larger than rounding.
        """
        return self._worth(self._distance(self._exact, self._run(copy.deepcopy(broken).double())))

    def effect_of_file(self, right: Path, broken: Path, format_name: str, contract: InputContract) -> float:
        """Return the same of an artifact beside the right one of its own format, both in that format's engine.

        Raises:
            NotApplicableError: it is no larger than rounding.
        """
        outputs = [self._run_file(path, format_name, contract) for path in (right, broken)]
        return self._worth(self._distance(*outputs))

    def _worth(self, effect: float) -> float:
        if effect <= self.rounding:
            raise NotApplicableError(
                f"it moves outputs by {effect:.1e}, no more than rounding does ({self.rounding:.1e}): this is not a "
                "fault here"
            )
        return effect

    def _run_file(self, path: Path, format_name: str, contract: InputContract) -> list[Outputs]:
        weights = path.with_suffix(".bin")
        content = Content.of(path, *([weights] if weights.exists() else []))
        outputs = get_format(format_name).open(content, "cpu", 1).run(contract.encode(self._images.numpy()))
        return [(torch.from_numpy(outputs["logits"]), torch.from_numpy(outputs["probabilities"]))]

    def _run(self, network: torch.nn.Module) -> list[Outputs]:
        batches = [self._images, *(self._images[row : row + 1] for row in range(min(ALONE, len(self._images))))]
        with torch.inference_mode():
            return [network.eval()(batch) for batch in batches]

    @staticmethod
    def _distance(expected: list[Outputs], outputs: list[Outputs]) -> float:
        worst = 0.0
        for exact, broken in zip(expected, outputs, strict=True):
            scale = exact[0].double().abs().amax(dim=1, keepdim=True)
            for right, actual, size in ((exact[0], broken[0], scale), (exact[1], broken[1], torch.ones_like(scale))):
                distance = ((actual.double() - right.double()).abs() / size).max()
                worst = max(worst, float(distance) if distance.isfinite() else float("inf"))
        return worst


def written(effect: float) -> str:
    """Write an effect for the table."""
    return f"{effect:.1e}" if np.isfinite(effect) else "not finite"
