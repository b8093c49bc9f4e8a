"""The manifest, said to a person: ``MODEL_CARD.md``."""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.bundle.manifest import ArtifactRecord, Manifest
from toolkit.results import Evaluation

_HOW_TO_LOAD = """```python
import toolkit

predictor = toolkit.load("PATH/TO/THIS/FOLDER")
print(predictor.predict(["photo.jpg"])[0].label)
```"""


def model_card(manifest: Manifest) -> str:
    """Return the model card as Markdown. It states what is in the manifest and nothing else."""
    parts = [
        f"# {manifest.name}",
        _what_it_is(manifest),
        "## Use\n\nWith `pip install 'toolkit[cpu]'` (no PyTorch needed):\n\n" + _HOW_TO_LOAD,
        "## Input and output\n\n" + _contract(manifest),
        "## Artifacts\n\n" + _artifacts(manifest),
    ]
    if manifest.evaluation is not None:
        parts.append("## Test results\n\n" + _results(manifest.evaluation))
    parts.append("## Origin\n\n" + _origin(manifest))
    return "\n\n".join(parts) + "\n"


def _what_it_is(manifest: Manifest) -> str:
    labels = ", ".join(manifest.labels[:20]) + (f" and {len(manifest.labels) - 20} more" if len(manifest.labels) > 20 else "")
    return (
        f"An image classifier with {len(manifest.labels)} classes ({labels}), fine-tuned from `{manifest.origin.backbone}` on {manifest.origin.data}."
    )


def _contract(manifest: Manifest) -> str:
    pre = manifest.preprocessing
    normalised = "inside the graph" if manifest.input.normalization_in_graph else "left to the caller, see `manifest.json`"
    taken = manifest.input
    lines = [
        f"- Input `{taken.name}`: {taken.dtype} {_shape(taken.shape)}, {taken.color}; normalisation is {normalised}.",
        f"- Before the graph: {pre.resize} to {pre.height} x {pre.width} with the {pre.interpolation} filter.",
        *(f"- Output `{output.name}`: {output.dtype} {_shape(output.shape)}, {output.meaning}." for output in manifest.outputs),
    ]
    return "\n".join(lines)


def _shape(shape: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(str(axis) for axis in shape) + "]"


def _artifacts(manifest: Manifest) -> str:
    rows = ["| file | format | precision | size | parity with PyTorch | test accuracy | speed |", "|---|---|---|---|---|---|---|"]
    for artifact in manifest.artifacts:
        kind = f"`{artifact.file}` | {artifact.format} | {artifact.precision} | {artifact.total_bytes / 1e6:.1f} MB"
        rows.append(f"| {kind} | {_parity(artifact)} | {_accuracy(artifact)} | {_speed(artifact)} |")
    notes = [note for artifact in manifest.artifacts for note in _notes(artifact)]
    notes += [f"- No `{refused.format}` artifact: {refused.reason}." for refused in manifest.not_exported]
    return "\n".join(rows) + ("\n\n" + "\n".join(notes) if notes else "")


def _notes(artifact: ArtifactRecord) -> Iterator[str]:
    """Yield what a user of one artifact must know beside its row."""
    if artifact.further_files:
        yield f"- `{artifact.file}` needs {', '.join(f'`{name}`' for name in artifact.further_files)} beside it."
    if artifact.portability == "same-machine":
        yield f"- `{artifact.file}` holds machine code for the machine it was exported on; export again on another one."
    if (search := artifact.quantization) is not None:
        chosen = next(candidate for candidate in search.candidates if candidate.chosen)
        yield (
            f"- `{artifact.file}`: quantised with ranges from {search.calibration_images} training images ({chosen.method}, per "
            f"{'channel' if chosen.per_channel else 'tensor'}, {len(chosen.kept_float32)} nodes in float32, weights of {search.weight_bits} bits); "
            f"{chosen.drop_points:.2f} points of accuracy lost on {search.validation_images} validation images. Exported on {search.processor}."
        )


def _parity(artifact: ArtifactRecord) -> str:
    if artifact.parity is None:
        return "not verified yet"
    if not artifact.parity.passed:
        return f"**failed**: {artifact.parity.failures[0]}"
    return f"passed on {artifact.parity.test_images} test images (largest logit error {artifact.parity.max_absolute_logits:.1e})"


def _accuracy(artifact: ArtifactRecord) -> str:
    measured = [summary.test_accuracy for summary in artifact.benchmarks if summary.test_accuracy is not None]
    return f"{measured[0]:.2%}" if measured else "not measured"


def _speed(artifact: ArtifactRecord) -> str:
    if not artifact.benchmarks:
        return "not measured"
    return "; ".join(
        f"{summary.images_per_second:.0f} img/s at batch {summary.batch_size} on {summary.processor} ({summary.device}, {summary.threads} threads)"
        for summary in artifact.benchmarks
    )


def _results(evaluation: Evaluation) -> str:
    low, high = evaluation.top1_interval.low, evaluation.top1_interval.high
    head = (
        f"Top-1 accuracy {evaluation.top1:.2%} (95% interval {low:.2%} to {high:.2%}) on {evaluation.images} {evaluation.split} images; "
        f"expected calibration error {evaluation.expected_calibration_error:.3f}."
    )
    rows = ["| class | test images | precision | recall |", "|---|---|---|---|"]
    for score in evaluation.classes:
        rows.append(f"| {score.label} | {score.support} | {_share(score.precision)} | {_share(score.recall)} |")
    return head + "\n\n" + "\n".join(rows)


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def _origin(manifest: Manifest) -> str:
    origin = manifest.origin
    packages = ", ".join(f"{name} {version}" for name, version in origin.provenance.packages.items())
    return "\n".join(
        (
            f"- Run `{origin.run}`, exported {origin.provenance.created} by toolkit {origin.provenance.toolkit}, Python {origin.provenance.python}.",
            f"- Starting weights: {origin.weights}.",
            f"- Fine-tuned weights: SHA-256 `{origin.model_sha256}`.",
            f"- Data: {origin.data}; the fingerprints of its splits and the whole recipe stand in `manifest.json`.",
            f"- Packages: {packages}.",
            f"- Machine: {origin.provenance.hardware.processor}, {origin.provenance.hardware.cores} cores.",
        )
    )
