"""The manifest, said to a person: ``MODEL_CARD.md``, in the order of Mitchell et al.

2019 ("Model Cards for Model Reporting").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from toolkit.bundle.manifest import README_NAME, ArtifactRecord, Manifest, Origin
from toolkit.bundle.speeds import speed_table, tuned_settings
from toolkit.compare.balance import strongly_imbalanced
from toolkit.compare.leak import leak_sentence
from toolkit.distribution import install_hint
from toolkit.printable import printable
from toolkit.results import ClassScore, Evaluation

_INTENDED_USE = """\
_Not written yet. Whoever ships this model knows what it is for, what it must not be used for, and on which kinds of
images it was never tried; `toolkit card FOLDER --intended-use FILE` puts that here. The results below hold for images
like those of the test split only._"""

_HOW_TO_LOAD = """```python
import toolkit

predictor = toolkit.load("PATH/TO/THIS/FOLDER")  # every file is checked against its SHA-256 first
prediction = predictor.predict(["photo.jpg"])[0]
print(prediction.label, prediction.probability)
```"""

_LEFT_OUT = "The {} would make the manifest too large with so many classes; the run's `evaluation.json` has it all."
_MANY_LABELS = 100
"""Above it the labels are folded away."""
_CONFUSIONS = 5


def model_card(manifest: Manifest) -> str:
    """Return the model card as Markdown. It states what is in the manifest and nothing else."""
    sections = {
        "Intended use": manifest.intended_use or _INTENDED_USE,
        "How to load it": f"{_what_to_install(manifest)}:\n\n{_HOW_TO_LOAD}",
        "Input and output": _contract(manifest),
        "Labels": _labels(manifest.labels),
        "Data": _data(manifest),
        "Test results": _results(manifest.evaluation) if manifest.evaluation else "Not measured.",
        "Artifacts": _artifacts(manifest),
        "Training": _training(manifest),
        "Origin": _origin(manifest),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"# {_text(manifest.name)}\n\n{_what_it_is(manifest)}\n\n{body}\n"


def _what_it_is(manifest: Manifest) -> str:
    origin, evaluation = manifest.origin, manifest.evaluation
    text = (
        f"An image classifier with {len(manifest.labels)} classes, fine-tuned from {_code(origin.backbone)} on "
        f"{_text(origin.data)}"
    )
    if evaluation is None:
        return f"{text}."
    return (
        f"{text}: it is right on {evaluation.top1:.2%} of {evaluation.images} images of the "
        f"{_text(evaluation.split)} split."
    )


def _what_to_install(manifest: Manifest) -> str:
    if any(artifact.engine == "onnxruntime" for artifact in manifest.artifacts):
        return f"With `{install_hint('cpu')}` (no PyTorch needed)"
    return f"With `{install_hint()}` and the engine of an artifact below"


def _contract(manifest: Manifest) -> str:
    pre = manifest.preprocessing
    decoded = ", of large JPEGs decoded at a reduced size" if pre.reduced else ""
    normalised = (
        "inside the graph" if manifest.input.normalization_in_graph else "left to the caller, see `manifest.json`"
    )
    taken = manifest.input
    lines = [
        f"- Input `{taken.name}`: {taken.dtype} {_shape(taken.shape)}, {taken.color}; normalisation is {normalised}.",
        f"- Before the graph: {pre.resize} to {pre.height} x {pre.width} with the {pre.interpolation} filter{decoded}.",
        *(
            f"- Output `{output.name}`: {output.dtype} {_shape(output.shape)}, {output.meaning}."
            for output in manifest.outputs
        ),
    ]
    if README_NAME in manifest.files:
        lines.append(
            f"- Other languages: [{README_NAME}]({README_NAME}) says how to make the input and how to check the "
            "outputs."
        )
    return "\n".join(lines)


def _labels(labels: tuple[str, ...]) -> str:
    numbered = ", ".join(f"{index}: {_text(label)}" for index, label in enumerate(labels))
    return (
        _folded(f"{len(labels)} labels", numbered)
        if len(labels) > _MANY_LABELS
        else f"By position in both outputs: {numbered}"
    )


def _data(manifest: Manifest) -> str:
    rows = "\n".join(f"| {_text(name)} | `{digest}` |" for name, digest in manifest.origin.data_fingerprints.items())
    head = f"{_text(manifest.origin.data)}. The splits by the SHA-256 over their ordered images and labels:"
    return f"{head}\n\n| split | fingerprint |\n|---|---|\n{rows}" if rows else f"{_text(manifest.origin.data)}."


def _results(evaluation: Evaluation) -> str:
    low, high, level = evaluation.top1_interval.low, evaluation.top1_interval.high, evaluation.top1_interval.level
    rows = [
        "| on the " + _text(evaluation.split) + " split | |",
        "|---|---|",
        f"| images | {evaluation.images} |",
        f"| top-1 accuracy | {evaluation.top1:.2%} ({level:.0%} Wilson interval {low:.2%} to {high:.2%}) |",
    ]
    supports = [score.support for score in evaluation.classes]
    if strongly_imbalanced(supports):
        label = evaluation.classes[supports.index(max(supports))].label
        rows.append(f"| top-1 accuracy of always answering {_text(label)} | {max(supports) / evaluation.images:.2%} |")
    if evaluation.top5 is not None:
        rows.append(f"| top-5 accuracy | {evaluation.top5:.2%} |")
    rows += [
        f"| mean negative log likelihood | {evaluation.loss:.3f} nats |",
        f"| expected calibration error | {evaluation.expected_calibration_error:.3f} (15 bins) |",
    ]
    classes = ["| class | images | precision | recall | F1 |", "|---|---|---|---|---|"]
    for score in evaluation.classes:
        figures = " | ".join(_share(value) for value in (score.precision, score.recall, _f1(score)))
        classes.append(f"| {_text(score.label)} | {score.support} | {figures} |")
    parts = ["\n".join(rows), "\n".join(classes) if evaluation.classes else _LEFT_OUT.format("results of each class")]
    if evaluation.leak is not None:
        parts.insert(1, f"**{_text(leak_sentence(evaluation.leak, evaluation.images, evaluation.split))}.**")
    if evaluation.classes and not evaluation.confusion:
        parts.append(_LEFT_OUT.format("confusion matrix"))
    if confused := _confusions(evaluation):
        parts.append(f"Most frequent mistakes: {'; '.join(confused)}.")
    return "\n\n".join(parts)


def _f1(score: ClassScore) -> float | None:
    if score.precision is None or score.recall is None or score.precision + score.recall == 0:
        return None
    return 2 * score.precision * score.recall / (score.precision + score.recall)


def _confusions(evaluation: Evaluation) -> list[str]:
    labels = [_text(score.label) for score in evaluation.classes]
    mistakes = sorted(
        (-count, true, predicted)
        for true, row in enumerate(evaluation.confusion)
        for predicted, count in enumerate(row)
        if count and true != predicted
    )
    return [
        f"{labels[true]} taken for {labels[predicted]} ({-count})" for count, true, predicted in mistakes[:_CONFUSIONS]
    ]


def _artifacts(manifest: Manifest) -> str:
    rows = [
        "| file | format | precision | size | parity with PyTorch | test accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for artifact in manifest.artifacts:
        kind = (
            f"{_code(artifact.file)} | {_text(artifact.format)} | {_text(artifact.precision)} | "
            f"{artifact.total_bytes / 1e6:.1f} MB"
        )
        rows.append(f"| {kind} | {_parity(artifact)} | {_accuracy(artifact)} |")
    notes = [note for artifact in manifest.artifacts for note in _notes(artifact)]
    notes += [f"- No `{refused.format}` artifact: {refused.reason}." for refused in manifest.not_exported]
    check = (
        "`toolkit selftest FOLDER` runs the samples in `golden/` through every artifact and compares with what "
        "PyTorch gave."
    )
    parts = ("\n".join(rows), _speeds(manifest), *(("\n".join(notes),) if notes else ()), check)
    return "\n\n".join(parts)


def _speeds(manifest: Manifest) -> str:
    table = speed_table(manifest.artifacts)
    if not table:
        return "Speed: not measured."
    head, *rows = table
    lines = [head, ("---",) * len(head), *((_code(row[0]), *(_text(cell) for cell in row[1:])) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _notes(artifact: ArtifactRecord) -> Iterator[str]:
    """Yield what a user of one artifact must know beside its row."""
    for setting in tuned_settings(artifact):
        yield f"- `{artifact.file}`, {_text(setting)}."
    if artifact.further_files:
        yield f"- `{artifact.file}` needs {', '.join(f'`{name}`' for name in artifact.further_files)} beside it."
    if artifact.carries_code:
        yield (
            f"- `{artifact.file}` can carry code that runs when it is opened: open it only if you trust whom this "
            "bundle is from."
        )
    if artifact.portability == "same-machine":
        yield f"- `{artifact.file}` holds machine code for the machine it was exported on; export again on another one."
    if (search := artifact.quantization) is not None:
        chosen = next((candidate for candidate in search.candidates if candidate.chosen), None)
        if chosen is None:
            return
        change = 0.0 - (chosen.drop_points or 0.0)
        yield (
            f"- `{artifact.file}`: quantised with ranges from {search.calibration_images} training images "
            f"({chosen.method}, per "
            f"{'channel' if chosen.per_channel else 'tensor'}, {len(chosen.kept_float32)} nodes in float32, weights "
            f"of {search.weight_bits} bits); "
            f"accuracy {change:+.2f} points on {search.validation_images} validation images. Exported on "
            f"{search.processor}."
        )


def _parity(artifact: ArtifactRecord) -> str:
    parity = artifact.parity
    if parity is None:
        return "not verified yet"
    if not parity.passed:
        return f"**failed**: {_text(parity.failures[0]) if parity.failures else 'no reason recorded'}"
    measured = []
    if parity.max_absolute_logits is not None:
        measured.append(f"largest logit error {parity.max_absolute_logits:.1e}")
    if parity.top1_agreement is not None:
        measured.append(f"same class on {parity.top1_agreement:.2%}")
    measured += [_text(sentence) for sentence in parity.limits]
    return f"passed on {parity.test_images} test images" + (f" ({', '.join(measured)})" if measured else "")


def _accuracy(artifact: ArtifactRecord) -> str:
    measured = [summary.test_accuracy for summary in artifact.benchmarks if summary.test_accuracy is not None]
    return f"{measured[0]:.2%}" if measured else "not measured"


def _training(manifest: Manifest) -> str:
    origin = manifest.origin
    # The recipe is written by toolkit, but its strings are the user's: a fence longer than any in it cannot be closed
    # from inside.
    fence = "`" * (max([2, *(len(run) for run in re.findall("`+", origin.recipe))]) + 1)
    recipe = _folded("The whole recipe", f"{fence}toml\n{origin.recipe.strip()}\n{fence}")
    return (
        f"- Starting weights: {_text(origin.weights)}.\n"
        f"- Licence of the starting weights: {_license(origin)}.\n"
        f"- Fine-tuned weights: SHA-256 `{origin.model_sha256}`.\n\n{recipe}"
    )


def _license(origin: Origin) -> str:
    return _text(origin.weights_license or "not known here; find out where they come from before you ship")


def _origin(manifest: Manifest) -> str:
    provenance = manifest.origin.provenance
    packages = ", ".join(f"{name} {version}" for name, version in provenance.packages.items())
    commit = f", commit `{provenance.commit}`" if provenance.commit else ""
    return "\n".join(
        (
            f"- Run {_code(manifest.origin.run)}, exported {provenance.created} by toolkit {provenance.toolkit}, "
            f"Python {provenance.python}{commit}.",
            f"- Packages: {packages}.",
            f"- Machine: {_text(provenance.hardware.processor)}, {provenance.hardware.cores} cores, "
            f"{_text(provenance.hardware.operating_system)}.",
        )
    )


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def _shape(shape: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(str(axis) for axis in shape) + "]"


def _text(value: str) -> str:
    """Return text in which nothing is markup, on one line: class names and paths may hold anything."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", printable(" ".join(value.split())))


def _code(value: str) -> str:
    """Return text as code that is safe in a table."""
    return f"`{printable(' '.join(value.split()))}`" if not set("`|") & set(value) else _text(value)
