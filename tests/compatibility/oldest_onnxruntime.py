"""Which releases of onnxruntime load what the ONNX profiles write: tried, not read up.

    python tests/compatibility/oldest_onnxruntime.py --interpreter python3.10 --releases 1.13.1,1.14.1,1.20.1

Exports a small network with every profile, in float32 and in 8 bits, makes a scratch environment per release, runs
every file there, and compares the logits. Needs pip's index; the release decides which interpreter has wheels of it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scratch_environment import environment

PROBE = """
import sys
import numpy as np
import onnxruntime
folder, name = sys.argv[1:]
try:
    session = onnxruntime.InferenceSession(f"{folder}/{name}.onnx", providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"images": np.load(f"{folder}/images.npy")})[0]
except Exception as error:
    print("no: " + str(error).splitlines()[0][:150])
else:
    print(f"yes, logits differ by {np.abs(logits - np.load(f'{folder}/{name}.npy')).max():.1e}")
"""


def export(folder: Path) -> list[str]:
    """Write a file per profile and precision with what today's onnxruntime says of some images.

    Return the files' names.
    """
    import torch
    from torch import nn

    from toolkit.backbones.deployable import Deployable
    from toolkit.bundle.content import Content
    from toolkit.bundle.manifest import Normalization
    from toolkit.data.calibration import calibration_of_arrays
    from toolkit.formats.base import ExportRequest
    from toolkit.formats.profiles import PROFILES
    from toolkit.formats.registry import get_format

    layers = [
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU6(),
    ]
    model = nn.Sequential(
        *layers, nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 4)
    )
    deployable = Deployable(model.eval(), Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)))
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    calibration = calibration_of_arrays(images, images, np.zeros(len(images), np.int64), lambda pixels: pixels, 100)
    names = []
    for profile, versions in PROFILES.items():
        for kind in ("onnx", "onnx-int8", "onnx-fp16"):
            chosen, name = get_format(kind), f"{profile}-{kind}"
            request = ExportRequest("images", ("logits", "probabilities"), {}, versions.opset, versions.ir_version)
            chosen.export(deployable, torch.from_numpy(images[:2]), folder / f"{name}.onnx", request, calibration)
            np.save(
                folder / f"{name}.npy", chosen.open(Content.of(folder / f"{name}.onnx"), "cpu", 1).run(images)["logits"]
            )
            names.append(name)
    return names


def main() -> None:
    """Try every release and print one line per file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interpreter", default=sys.executable, help="a Python that the releases have wheels for")
    parser.add_argument("--releases", default="1.13.1,1.14.1", help="releases of onnxruntime, separated by commas")
    parser.add_argument(
        "--environments", type=Path, help="where scratch environments are kept (default: a temporary folder)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        names = export(Path(scratch))
        for release in arguments.releases.split(","):
            # Releases before 1.19 were built against numpy 1.
            numpy = "numpy<2" if tuple(map(int, release.split("."))) < (1, 19) else "numpy"
            packages = [f"onnxruntime=={release}", numpy]
            python = environment(arguments.interpreter, packages, arguments.environments or Path(scratch))
            for name in names:
                done = subprocess.run(
                    [str(python), "-c", PROBE, scratch, name], capture_output=True, text=True, check=False
                )
                print(
                    f"onnxruntime {release:8} {name:18} "
                    f"{done.stdout.strip() or 'crashed: ' + done.stderr.strip()[-150:]}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
