"""The manifest, said to a person who writes in another language: ``README.md`` of the bundle.

It states nothing that changes after export, so it is written once and never again.
"""

from __future__ import annotations

from toolkit.bundle.manifest import (
    GIT_ATTRIBUTES_NAME,
    GOLDEN_EXPECTED,
    GOLDEN_TEXT,
    LABELS_NAME,
    MANIFEST_NAME,
    MODEL_CARD_NAME,
    SIGNATURE_NAME,
    ArtifactRecord,
    Manifest,
)
from toolkit.preprocess import DENOMINATORS, Preprocessing, smallest_reduced

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
        "## From an image file to the input\n\n" + preprocessing_steps(manifest),
        "## Input and output\n\n" + _contract(manifest),
        "## Check\n\n" + _check(manifest),
    ]
    if any(_runs_in_program(artifact) for artifact in manifest.artifacts):
        parts.append(f"The same as a program, with numpy and onnxruntime only:\n\n```python\n{_program(manifest)}```")
    return "\n\n".join(parts) + "\n"


def _runs_in_program(artifact: ArtifactRecord) -> bool:
    """Say whether the program can check an artifact: it is judged by something, and onnxruntime opens it as it is."""
    return artifact.family == "onnx" and artifact.tolerance is not None


def _files(manifest: Manifest) -> str:
    lines = [
        f"- `{artifact.file}`: the model as {artifact.format}, {artifact.precision}{_KINDS[artifact.carries_code]}."
        for artifact in manifest.artifacts
    ]
    return "\n".join(
        (
            *lines,
            f"- `{MANIFEST_NAME}`: labels, contract, and SHA-256 and size of every other file (`artifacts[].sha256`, "
            f"`files{{}}.sha256`). What was measured of an artifact stands in its `benchmarks`: one entry a processor, "
            "with the best batch size, threads and parallel streams under `tuned` where they were looked for.",
            f"- `{SIGNATURE_NAME}`: only if the bundle is signed: Ed25519 over the bytes of `{MANIFEST_NAME}`; key "
            "and signature are Base64.",
            f"- `{GOLDEN_EXPECTED}` and `golden/*.bin`: samples with the outputs that are expected of them.",
            f"- `{LABELS_NAME}` and `{GOLDEN_TEXT}`: labels, samples and limits for a program that reads no JSON.",
            f"- `{MODEL_CARD_NAME}`: what the model is and how good it is.",
            f"- `{GIT_ATTRIBUTES_NAME}`: keeps git from changing line ends, which would change the hashes.",
            "",
            "Compare the hashes before anything else reads the files. A file that is not listed, or a link, does not "
            "belong here.",
        )
    )


def preprocessing_steps(manifest: Manifest) -> str:
    """Return how an image file becomes the pixels that the network was trained on, as a Markdown list."""
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
            f"{pre.color_profile}. Animation: {pre.animation}. Size: {pre.decode}.",
            f"2. Grey: {pre.grey}. Alpha: {pre.alpha}. Palette: {pre.palette}. CMYK: {pre.cmyk}. 16 bits: "
            f"{pre.sixteen_bit}.",
            f"3. {size}, with the {pre.interpolation} filter ({pre.resampling}).",
            "",
            *((_reduced(pre), "") if pre.reduced else ()),
            "Another resampling library gives slightly other pixels, so check the model with the golden samples, "
            "which are pixels already.",
        )
    )


def _reduced(pre: Preprocessing) -> str:
    """Say how a large JPEG is decoded, as one paragraph and a table."""
    rows = []
    for part in DENOMINATORS:
        width, height = smallest_reduced(part, pre)
        rows.append(f"| {width} x {height} | 1/{part} | `IMREAD_REDUCED_COLOR_{part}` |")
    if pre.resize == "squash":
        sizes = "A JPEG is decoded at a part of its size where both sides have at least:"
    else:
        sizes = (
            "A JPEG is decoded at 1/n of its size (n = 8, 4, 2; the first that fits) where both sides are at least 2n "
            "times those that it is resized to, before anything is cut off. One of the shape of the input is from this "
            "size on:"
        )
    return "\n".join(
        (
            sizes,
            "",
            "| width x height, upright | part | OpenCV |",
            "|---|---|---|",
            *rows,
            "",
            "In libjpeg, set `scale_num = 1` and `scale_denom = 8`, `4` or `2` before `jpeg_start_decompress`. Sides "
            "are rounded up; resize the part of the result that is the image, from 0 to width / 8, / 4 or / 2 across "
            "and likewise down (turned as EXIF says; Pillow's `resize` takes it as `box`). Where that cannot be said, "
            "the whole result is off by less than half a pixel of the resized image, at its right and lower edge. "
            "Smaller JPEGs, lossless ones, and files that are none are decoded at their own size.",
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
    lines += [f"- `{artifact.file}`: {artifact.usage}" for artifact in manifest.artifacts if artifact.usage]
    return "\n".join(lines)


def _check(manifest: Manifest) -> str:
    height, width = manifest.preprocessing.height, manifest.preprocessing.width
    lines = [
        f"1. Read `{GOLDEN_EXPECTED}`. Each entry of `cases` names a `file` and gives its expected `logits` and "
        "`probabilities`. Those of the `kind` `image` come first, then inputs of the `kind` `edge`, which are no "
        "photographs.",
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
        *_further_checks(manifest),
        "Values that are not finite always fail. If this fails while the hashes are right, the engine or the code "
        "around it is at fault.",
        "",
        _plain_text(manifest),
    ]
    return "\n".join(lines)


def _plain_text(manifest: Manifest) -> str:
    """Say how the same is read without a JSON library."""
    normalised = "" if manifest.input.normalization_in_graph else ", three means and three standard deviations"
    rows = (
        ("`samples`", "1 (the version), number of samples, how many of them are images, height, width, classes"),
        ("`input`", f"name of the input{normalised}"),
        ("`artifact`", "its file. This line and the next three stand there once for each artifact"),
        ("`format`, `precision`", "what the manifest says of it"),
        (
            "`limits`",
            "how far its logits may be off: absolute, and as a share of `largest`; its probabilities, absolute; and "
            "the typical error. `-` where this is not judged",
        ),
        ("`case`", "file of the pixels. This line and the next two stand there once for each sample"),
        ("`logits`, `probabilities`", "what is expected, a number for each class"),
    )
    return "\n".join(
        (
            f"The same without a JSON library: class `i` is line `i` of `{LABELS_NAME}`, counted from 0. "
            f"Each line of `{GOLDEN_TEXT}` starts with a word, in this order; a blank stands before each number, and a "
            "name reaches to the end of its line:",
            "",
            "| word | what follows |",
            "|---|---|",
            *(f"| {word} | {what} |" for word, what in rows),
        )
    )


def _further_checks(manifest: Manifest) -> tuple[str, ...]:
    """Return the steps that hold for some artifacts only."""
    steps = []
    if any(_limits(artifact) is not None for artifact in manifest.artifacts):
        steps.append(
            f"The typical error must be one of rounding: over all samples, the root mean square of (largest error of a "
            f"logit / `largest`) is at most `rounding_multiple` of the artifact's `tolerance` in `{MANIFEST_NAME}`, "
            f"times `rounding` of its precision in `{GOLDEN_EXPECTED}`, where both are given."
        )
    if any(_limits(artifact) is None and artifact.tolerance is not None for artifact in manifest.artifacts):
        steps.append(
            f"An artifact that is judged by its classes is held to its entry in `limits` of `{GOLDEN_EXPECTED}`. Of "
            "the images, at most `different_classes` may have another largest logit than expected, and the mean of the "
            "sum of `p * ln(p / q)` over the classes, with `p` expected and `q` returned, is at most "
            "`mean_divergence`. Of the edge inputs, the root mean square of (largest error of a logit / `largest`) is "
            "at most `edge_error`. "
            "What is null is not judged."
        )
    return tuple(line for step in steps for line in (step, ""))


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
        return "any: this precision is judged by its classes, see below | any"
    return f"{limits[0]:g} + {limits[1]:g} * largest | {limits[2]:g}"


def _program(manifest: Manifest) -> str:
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
golden = json.loads((folder / "{GOLDEN_EXPECTED}").read_text("utf-8"))
shape = (golden["height"], golden["width"], 3)
files = [(folder / case["file"]).read_bytes() for case in golden["cases"]]
pixels = numpy.stack([numpy.frombuffer(content, numpy.uint8).reshape(shape) for content in files])
{encode}
right, p = (numpy.array([case[name] for case in golden["cases"]]) for name in ("logits", "probabilities"))
largest = numpy.maximum(numpy.abs(right).max(axis=1, keepdims=True), 1e-30)
photos = sum(case["kind"] == "image" for case in golden["cases"])


def typical(logits, rows):
    return numpy.sqrt((numpy.abs((logits - right[rows]) / largest[rows]).max(axis=1) ** 2).mean())


def check_values(allowed, rounding, logits, probabilities, rows):
    margin = allowed["logits_absolute"] + allowed["logits_relative"] * largest[rows]
    assert (abs(logits - right[rows]) <= margin).all(), "logits differ"
    assert (abs(probabilities - p[rows]) <= allowed["probabilities_absolute"]).all(), "probabilities differ"
    if rounding and allowed["rounding_multiple"] and len(logits) == len(right):
        assert typical(logits, rows) <= allowed["rounding_multiple"] * max(rounding, 2**-24), "more than rounding"


def check_classes(limits, logits, q):
    different = (logits[:photos].argmax(axis=1) != right[:photos].argmax(axis=1)).sum()
    assert different <= limits["different_classes"], "classes differ"
    divergence = (p * (numpy.log(numpy.maximum(p, 1e-12)) - numpy.log(numpy.maximum(q, 1e-12)))).sum(axis=1)
    most = limits["mean_divergence"]
    assert most is None or divergence[:photos].mean() <= most, "probabilities diverge"
    most = limits["edge_error"]
    assert most is None or typical(logits[photos:], slice(photos, None)) <= most, "edge inputs differ"


for artifact in manifest["artifacts"]:
    if artifact["family"] != "onnx" or artifact["tolerance"] is None:
        continue
    session = onnxruntime.InferenceSession(folder / artifact["file"], providers=["CPUExecutionProvider"])
    limits, rounding = golden["limits"].get(artifact["file"]), golden["rounding"].get(artifact["precision"])
    for rows in [slice(None), *(slice(row, row + 1) for row in range(len(images)))]:
        logits, probabilities = session.run(["logits", "probabilities"], {{"{taken.name}": images[rows]}})
        assert numpy.isfinite(logits).all() and numpy.isfinite(probabilities).all(), "not finite"
        if artifact["tolerance"]["logits_absolute"] is not None:
            check_values(artifact["tolerance"], rounding, logits, probabilities, rows)
        elif limits and len(logits) == len(right):
            check_classes(limits, logits, probabilities)
print("passed")
"""


def _shape(shape: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(str(axis) for axis in shape) + "]"
