"""The golden samples of a bundle in actors of Ray, on this machine or on the cluster that RAY_ADDRESS names.

python run.py BUNDLE

Exit code 0: all outputs are within the bundle's tolerance. 1: some are not. 2: nothing could be run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import ray
from golden import OUTPUTS, check_host, open_bundle

import toolkit


@ray.remote(num_cpus=1)
class Model:
    """A bundle in a process of its own."""

    def __init__(self, folder: str) -> None:
        self._predictor = toolkit.load(folder, threads=1)

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Compute ``logits`` and ``probabilities`` of prepared pixels, uint8 ``[n, H, W, 3]``."""
        return self._predictor.run(pixels)


def main(folder: Path) -> int:
    """Run them and return the exit code."""
    bundle = open_bundle(folder)
    ray.init(address=os.environ.get("RAY_ADDRESS", "local"), log_to_driver=False, logging_level="error")
    models = [Model.remote(str(folder.absolute())) for _ in range(int(ray.cluster_resources()["CPU"]))]

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.array_split(pixels, min(len(models), len(pixels)))
        answers = ray.get([model.run.remote(part) for model, part in zip(models, parts, strict=False)])
        return {name: np.concatenate([answer[name] for answer in answers]) for name in OUTPUTS}

    host = f"Ray {ray.__version__}, {len(models)} actors, toolkit {toolkit.__version__}"
    code = check_host(host, bundle, bundle.pixels, run)
    ray.shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
