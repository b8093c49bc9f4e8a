"""A bundle as a program without toolkit reads it: manifest, golden samples, and what they allow.

Needs numpy. Every file is compared with the SHA-256 in the manifest before anything else looks at it. What a reader of
strangers' bundles checks beyond that stands in the specification of the bundle.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

SECONDS = 1.0
OUTPUTS = ("logits", "probabilities")
Outputs = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Bundle:
    """What is needed to run the golden samples.

    Attributes:
        manifest: as it is in the file.
        artifact: its entry of the ONNX artifact in float32.
        golden: what is expected of the samples.
        pixels: the samples, uint8 ``[n, H, W, 3]``.
        model: the ONNX file.
    """

    manifest: dict[str, Any]
    artifact: dict[str, Any]
    golden: dict[str, Any]
    pixels: npt.NDArray[np.uint8]
    model: bytes

    @property
    def inputs(self) -> npt.NDArray[Any]:
        """The samples as the graph takes them."""
        taken = self.manifest["input"]
        if taken["normalization_in_graph"]:
            return self.pixels
        norm = taken["normalization"]
        mean, std = (np.float32(norm[name]) * np.float32(255) for name in ("mean", "std"))
        return np.ascontiguousarray(((self.pixels - mean) / std).transpose(0, 3, 1, 2))


def open_bundle(folder: Path) -> Bundle:
    """Open a bundle, or end the program with exit code 2 and the reason."""
    manifest = json.loads(_read(folder / "manifest.json"))
    if manifest["schema_version"] != 3:
        refuse(f"the manifest is of version {manifest['schema_version']}, this program reads 3: export it again")
    found = [one for one in manifest["artifacts"] if (one["family"], one["precision"]) == ("onnx", "float32")]
    if not found:
        refuse("the bundle has no ONNX artifact in float32: export it with --formats onnx")
    artifact = found[0]
    if artifact["further_files"]:
        refuse(f"{artifact['file']} keeps weights in files beside it, which this program does not hand over")
    records = {**manifest["files"], artifact["file"]: artifact}

    def checked(name: str) -> bytes:
        if name not in records:
            refuse(f"the manifest lists no {name}: export the bundle again")
        content = _read(folder / name)
        if hashlib.sha256(content).hexdigest() != records[name]["sha256"]:
            refuse(f"{name} is not the file that the manifest describes: copy the bundle again")
        return content

    golden = json.loads(checked("golden/expected.json"))
    shape = (golden["height"], golden["width"], 3)
    samples = [np.frombuffer(checked(case["file"]), np.uint8).reshape(shape) for case in golden["cases"]]
    return Bundle(manifest, artifact, golden, np.stack(samples), checked(artifact["file"]))


def check_host(host: str, bundle: Bundle, inputs: npt.NDArray[Any], run: Callable[[npt.NDArray[Any]], Outputs]) -> int:
    """Run every golden sample alone and all of them in one batch, then all of them again for a second; say what came.

    Args:
        host: what runs them, with versions.
        bundle: whose samples they are.
        inputs: the samples, as ``run`` takes them.
        run: computes ``logits`` and ``probabilities``, float32 ``[n, C]``.

    Returns:
        The exit code: 1 where an output is beyond the bundle's tolerance.
    """
    every = list(range(len(inputs)))
    difference, failures = 0.0, []
    for rows in [*([row] for row in every), every]:
        outputs = run(inputs[rows])
        expected = np.float32([bundle.golden["cases"][row]["logits"] for row in rows])
        if outputs["logits"].shape == expected.shape:
            difference = float(np.maximum(difference, np.abs(outputs["logits"] - expected).max()))
        failures += judge(bundle, rows, outputs)
    images, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        run(inputs)
        images += len(inputs)
    speed = images / (time.perf_counter() - start)
    artifact = bundle.artifact
    lines = (
        f"host: {host}",
        f"artifact: {artifact['file']} ({artifact['format']}, {artifact['precision']})",
        f"golden samples: {len(inputs)}, each alone and all together",
        f"largest logit difference: {difference:.2e}",
        f"images per second: {speed:.3g}",
        *([f"FAILED: {failure}" for failure in failures] or ["passed"]),
    )
    print("\n".join(lines), flush=True)
    return 1 if failures else 0


def judge(bundle: Bundle, rows: list[int], outputs: Outputs) -> Iterator[str]:
    """Yield in what the outputs of some samples are beyond the artifact's tolerance, a sentence each."""
    cases = [bundle.golden["cases"][row] for row in rows]
    allowed = bundle.artifact["tolerance"]
    expected = {name: np.float32([case[name] for case in cases]) for name in OUTPUTS}
    for name, values in expected.items():
        if outputs[name].shape != values.shape:
            yield f"{name} have the shape {list(outputs[name].shape)}, not {list(values.shape)}"
            return
    largest = np.maximum(np.abs(expected["logits"]).max(axis=1).astype(float), 1e-30)
    errors = {name: np.abs(outputs[name].astype(float) - expected[name]).max(axis=1) for name in OUTPUTS}
    margins = {
        "logits": allowed["logits_absolute"] + allowed["logits_relative"] * largest,
        "probabilities": np.full(len(rows), allowed["probabilities_absolute"]),
    }
    for name, error in errors.items():
        for case, off, margin in zip(cases, error, margins[name], strict=True):
            if not off <= margin:  # NaN is not
                yield f"{name} of {case['file']} differ by {off:.2e}, allowed {margin:.2e}"
    # The typical error must be one of rounding; that is judged over all samples.
    rounding = bundle.golden["rounding"].get(bundle.artifact["precision"])
    typical = np.sqrt(((errors["logits"] / largest) ** 2).mean())
    if rounding and allowed["rounding_multiple"] and len(rows) == len(bundle.pixels):
        most = allowed["rounding_multiple"] * max(rounding, 2**-24)
        if not typical <= most:
            yield f"logits are typically off by {typical:.2e} of the largest, rounding explains {most:.2e}"


def refuse(reason: str) -> NoReturn:
    """End the program: nothing can be run."""
    sys.stderr.write(f"{reason}\n")
    sys.exit(2)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        refuse(f"{path} cannot be read ({error.strerror}): give the folder of a bundle")
