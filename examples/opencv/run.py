"""The golden samples of a bundle in OpenCV's own engine.

python run.py BUNDLE

Exit code 0: all outputs are within the bundle's tolerance. 1: some are not. 2: nothing could be run.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import cv2
import numpy as np
from golden import OUTPUTS, check_host, open_bundle, refuse


def main(folder: Path) -> int:
    """Run them and return the exit code."""
    bundle = open_bundle(folder)
    try:
        network = cv2.dnn.readNetFromONNX(np.frombuffer(bundle.model, np.uint8))
    except cv2.error as error:
        refuse(f"OpenCV {cv2.__version__} cannot read {bundle.artifact['file']}: {str(error).strip()}")

    def run(inputs: np.ndarray) -> dict[str, np.ndarray]:
        network.setInput(inputs, bundle.manifest["input"]["name"])
        return dict(zip(OUTPUTS, network.forward(list(OUTPUTS)), strict=True))

    host = f"OpenCV {cv2.__version__}, Python {platform.python_version()}"
    return check_host(host, bundle, bundle.inputs, run)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
