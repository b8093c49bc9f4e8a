"""Which releases of OpenCV read what the ONNX format writes, and compute the same: tried, not read up.

    python tests/compatibility/opencv.py --releases 4.14.0.94,5.0.0.93 --backbones resnet18,mobilenet_v3_small

Exports networks with random weights, with pixels and with a normalised tensor as input, makes a scratch environment per
release, and compares the logits of every file at batch 1 and 4 with onnxruntime's. Needs pip's index.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scratch_environment import environment

SIZE = 64
PROBE = """
import sys
import cv2, numpy as np
folder, name = sys.argv[1:]
inputs, expected = np.load(f"{folder}/{name}.inputs.npy"), np.load(f"{folder}/{name}.logits.npy")
try:
    network = cv2.dnn.readNetFromONNX(f"{folder}/{name}.onnx")
    differences = []
    for batch in (1, 4):
        network.setInput(inputs[:batch])
        differences.append(np.abs(network.forward("logits") - expected[:batch]).max())
except cv2.error as error:
    print("no: " + str(error).strip().splitlines()[-1][:150])
else:
    print(f"yes, logits differ by {max(differences):.1e} of {np.abs(expected).max():.1e}")
"""


def export(backbone: str, takes_images: bool, folder: Path) -> str:
    """Write a network with what onnxruntime says of some inputs; return the files' name."""
    import torch

    from toolkit.backbones import create_backbone
    from toolkit.backbones.deployable import Deployable, input_contract
    from toolkit.formats.base import ExportRequest
    from toolkit.formats.onnx import OnnxFormat, open_session

    made = create_backbone(backbone, weights="none", classes=5, image_size=SIZE, seed=0)
    contract = input_contract(made.normalization, SIZE, SIZE, takes_images)
    pixels = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    inputs = contract.encode(pixels)
    name = f"{backbone.replace(':', '_')}-{contract.name}"
    OnnxFormat().export(
        Deployable(made.model, made.normalization, takes_images),
        torch.from_numpy(inputs[:2]),
        folder / f"{name}.onnx",
        ExportRequest(contract.name, ("logits", "probabilities"), {}),
        None,
    )
    logits = open_session(folder / f"{name}.onnx", "cpu", 1).run(["logits"], {contract.name: inputs})[0]
    np.save(folder / f"{name}.inputs.npy", inputs)
    np.save(folder / f"{name}.logits.npy", logits)
    return name


def main() -> None:
    """Try every release and print one line per file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interpreter", default=sys.executable, help="a Python that the releases have wheels for")
    parser.add_argument("--releases", default="4.14.0.94,5.0.0.93", help="of opencv-python-headless, with commas")
    parser.add_argument("--backbones", default="resnet18,mobilenet_v3_small,timm:tf_efficientnet_lite0")
    parser.add_argument(
        "--environments", type=Path, help="where scratch environments are kept (default: a temporary folder)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        backbones = arguments.backbones.split(",")
        names = [export(backbone, images, Path(scratch)) for backbone in backbones for images in (True, False)]
        for release in arguments.releases.split(","):
            packages = [f"opencv-python-headless=={release}", "numpy"]
            python = environment(arguments.interpreter, packages, arguments.environments or Path(scratch))
            for name in names:
                done = subprocess.run([python, "-c", PROBE, scratch, name], capture_output=True, text=True, check=False)
                outcome = done.stdout.strip() or "crashed: " + done.stderr.strip()[-150:]
                print(f"OpenCV {release:10} {name:40} {outcome}", flush=True)


if __name__ == "__main__":
    main()
