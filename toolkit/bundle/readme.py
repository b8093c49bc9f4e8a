"""The manifest, said to a person who writes in another language: ``README.md`` of the bundle.

It states nothing that changes after export, so it is written once and never again.
"""

from __future__ import annotations

from toolkit.bundle.manifest import (
    GOLDEN_EXPECTED,
    MANIFEST_NAME,
    MODEL_CARD_NAME,
    SIGNATURE_NAME,
    ArtifactRecord,
    Manifest,
)

_KINDS = {
    None: "",
    False: "; data for an engine",
    True: "; can carry code that runs when it is opened, so open it only if you trust whom this folder is from",
}
"""What is said of an artifact, by whether its format can carry code."""


def readme(manifest: Manifest) -> str:
    """Return how to check and to use a bundle without toolkit, as Markdown."""
    parts = [
        f"# How to use and check `{manifest.name}` from any language",
        f"All values below stand in `{MANIFEST_NAME}` too; a program should read them there. With toolkit, `toolkit "
        "selftest FOLDER` does the check.",
        "## Files\n\n" + _files(manifest),
        "## From an image file to the input\n\n" + _preprocessing(manifest),
        "## Input and output\n\n" + _contract(manifest),
        "## Check\n\n" + _check(manifest),
    ]
    if exact := next((artifact for artifact in manifest.artifacts if _runs_in_program(artifact)), None):
        parts.append(
            f"The same as a program, with numpy and onnxruntime only:\n\n```python\n{_program(manifest, exact)}```"
        )
    return "\n\n".join(parts) + "\n"


def _runs_in_program(artifact: ArtifactRecord) -> bool:
    """Say whether the program can check an artifact: exact values, in a file that onnxruntime opens as it is."""
    return artifact.family == "onnx" and artifact.precision == "float32" and _limits(artifact) is not None


def _files(manifest: Manifest) -> str:
    lines = [
        f"- `{artifact.file}`: the model as {artifact.format}, {artifact.precision}{_KINDS[artifact.carries_code]}."
        for artifact in manifest.artifacts
    ]
    return "\n".join(
        (
            *lines,
            f"- `{MANIFEST_NAME}`: labels, contract, and SHA-256 and size of every other file (`artifacts[].sha256`, "
            f"`files{{}}.sha256`).",
            f"- `{SIGNATURE_NAME}`: only if the bundle is signed: Ed25519 over the bytes of `{MANIFEST_NAME}`; key "
            "and signature are Base64.",
            f"- `{GOLDEN_EXPECTED}` and `golden/*.bin`: samples with the outputs that PyTorch gave.",
            f"- `{MODEL_CARD_NAME}`: what the model is and how good it is.",
            "",
            "Compare the hashes before anything else reads the files. A file that is not listed, or a link, does not "
            "belong here.",
        )
    )


def _preprocessing(manifest: Manifest) -> str:
    pre = manifest.preprocessing
    if pre.resize == "squash":
        size = f"Resize to {pre.height} x {pre.width} (height x width), each side on its own"
    else:
        size = (
            f"Resize so that the image covers {pre.height / pre.crop_fraction:g} x {pre.width / pre.crop_fraction:g} "
            "(height x width), keeping its "
            f"shape, then cut the central {pre.height} x {pre.width} out (rounding: {pre.crop_rounding})"
        )
    return "\n".join(
        (
            f"1. Decode to {pre.color}. EXIF orientation: {pre.exif_orientation}. Colour profile: "
            f"{pre.color_profile}. Animation: {pre.animation}.",
            f"2. Grey: {pre.grey}. Alpha: {pre.alpha}. Palette: {pre.palette}. CMYK: {pre.cmyk}. 16 bits: "
            f"{pre.sixteen_bit}.",
            f"3. {size}, with the {pre.interpolation} filter ({pre.resampling}).",
            "",
            "Another resampling library gives slightly other pixels, so check the model with the golden samples, "
            "which are pixels already.",
        )
    )


def _contract(manifest: Manifest) -> str:
    taken, norm = manifest.input, manifest.input.normalization
    lines = [
        f"- Input `{taken.name}`: {taken.dtype} {_shape(taken.shape)}, {taken.color}, row by row. N is any number of "
        "images of 1 or more."
    ]
    if taken.normalization_in_graph:
        lines.append("- Feed the pixels as they are: scaling and normalisation are in the graph.")
    else:
        lines.append(
            f"- Normalise each channel yourself: `(pixel - 255 * mean) / (255 * std)` with mean {list(norm.mean)} "
            f"and std {list(norm.std)}, "
            "and put the channels first."
        )
    lines += [
        f"- Output `{output.name}`: {output.dtype} {_shape(output.shape)}, {output.meaning}."
        for output in manifest.outputs
    ]
    lines.append(f"- Class `i` of the outputs is `labels[i]` of `{MANIFEST_NAME}`.")
    return "\n".join(lines)


def _check(manifest: Manifest) -> str:
    height, width = manifest.preprocessing.height, manifest.preprocessing.width
    lines = [
        f"1. Read `{GOLDEN_EXPECTED}`. Each entry of `cases` names a `file` and gives its expected `logits` and "
        "`probabilities`.",
        f"2. Each file holds {height * width * 3} bytes: {height} rows of {width} pixels of R, G, B, 8 bits each, "
        "already preprocessed. "
        f"The value of row y, column x and channel c is byte `(y * {width} + x) * 3 + c`.",
        "3. Make the input of them as said above. Run each sample alone (N = 1), and all of them in one batch.",
        "4. With `largest` as the largest absolute expected logit of a sample, each value may differ from the "
        "expected one by at most:",
        "",
        "| artifact | logits | probabilities |",
        "|---|---|---|",
        *(f"| `{artifact.file}` | {_allowed(artifact)} |" for artifact in manifest.artifacts),
        "",
        "Values that are not finite always fail. If this fails while the hashes are right, the engine or the code "
        "around it is at fault.",
    ]
    return "\n".join(lines)


def _limits(artifact: ArtifactRecord) -> tuple[float, float, float] | None:
    """Return what single values are judged by.

    None for a precision that is judged by its classes, not by its values.
    """
    tolerance = artifact.tolerance
    if tolerance is None:
        return None
    logits, relative, probabilities = (
        tolerance.logits_absolute,
        tolerance.logits_relative,
        tolerance.probabilities_absolute,
    )
    return None if logits is None or relative is None or probabilities is None else (logits, relative, probabilities)


def _allowed(artifact: ArtifactRecord) -> str:
    limits = _limits(artifact)
    if limits is None:
        return "any: this precision is judged by its classes | any"
    return f"{limits[0]:g} + {limits[1]:g} * largest | {limits[2]:g}"


def _program(manifest: Manifest, artifact: ArtifactRecord) -> str:
    taken, norm = manifest.input, manifest.input.normalization
    if taken.normalization_in_graph:
        encode = "images = pixels"
    else:
        encode = (
            f"mean, std = numpy.float32({list(norm.mean)}) * numpy.float32(255), numpy.float32({list(norm.std)}) * "
            "numpy.float32(255)\n"
            "images = numpy.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2))"
        )
    return f"""import json, sys
from pathlib import Path
import numpy, onnxruntime

folder = Path(sys.argv[1])
manifest = json.loads((folder / "{MANIFEST_NAME}").read_text("utf-8"))
allowed = manifest["artifacts"][{manifest.artifacts.index(artifact)}]["tolerance"]
golden = json.loads((folder / "{GOLDEN_EXPECTED}").read_text("utf-8"))
shape = (golden["height"], golden["width"], 3)
files = [(folder / case["file"]).read_bytes() for case in golden["cases"]]
pixels = numpy.stack([numpy.frombuffer(content, numpy.uint8).reshape(shape) for content in files])
{encode}
expected = {{name: numpy.array([case[name] for case in golden["cases"]]) for name in ("logits", "probabilities")}}
largest = numpy.abs(expected["logits"]).max(axis=1, keepdims=True)
session = onnxruntime.InferenceSession(folder / "{artifact.file}", providers=["CPUExecutionProvider"])
for rows in [slice(None), *(slice(row, row + 1) for row in range(len(images)))]:
    logits, probabilities = session.run(["logits", "probabilities"], {{"{taken.name}": images[rows]}})
    margin = allowed["logits_absolute"] + allowed["logits_relative"] * largest[rows]
    assert (abs(logits - expected["logits"][rows]) <= margin).all(), "logits differ"
    errors = abs(probabilities - expected["probabilities"][rows])
    assert (errors <= allowed["probabilities_absolute"]).all(), "probabilities differ"
print("passed")
"""


def _shape(shape: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(str(axis) for axis in shape) + "]"
