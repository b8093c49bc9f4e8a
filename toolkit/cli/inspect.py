"""``toolkit inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.hanging import echo_hanging
from toolkit.cli.options import ArtifactsOption, PlaceArgument, RunOption, VerifyKeyOption
from toolkit.cli.place import find_place

if TYPE_CHECKING:
    from toolkit.bundle import ArtifactRecord, Bundle, Manifest


def command(
    place: PlaceArgument = None,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as it is.")] = False,
    verify_key: VerifyKeyOption = None,
) -> None:
    """Print what is in a bundle, after checking every file against its manifest."""
    from toolkit.bundle import Bundle

    opened = Bundle.open(find_place(place, run, artifacts).bundle, verify_key)
    if as_json:
        typer.echo(opened.manifest.to_json(), nl=False)
        return
    for title, value in _describe(opened.manifest):
        echo_hanging(f"{title:14} ", value)
    files = len(opened.manifest.artifacts) + len(opened.manifest.files)
    echo_hanging(f"{'files':14} ", f"all {files} match their SHA-256, and there are no others")
    echo_hanging(f"{'signature':14} ", _signed(opened, verify_key))
    for number, line in enumerate(_pushed(opened)):
        echo_hanging(f"{'' if number else 'pushed':14} ", line)


def _signed(bundle: Bundle, verify_key: Path | None) -> str:
    from toolkit.bundle.trust.signature import fingerprint

    if bundle.signature is None:
        return "none"
    key = fingerprint(bundle.signature.public_key)
    return (
        f"valid, by the key {key} of {verify_key}"
        if verify_key
        else f"by the key {key}, not checked: give that key with --verify-key"
    )


def _pushed(bundle: Bundle) -> list[str]:
    """Return where a bundle in the folder of its run was pushed; nothing of one that was not."""
    from hashlib import sha256

    from toolkit.remote import pushed_archives, run_of_bundle

    run = run_of_bundle(bundle.path)
    manifest = sha256(bundle.manifest_bytes).hexdigest()
    return [
        f"{pushed.url}, {pushed.created}, SHA-256 {pushed.sha256}"
        + ("" if pushed.manifest_sha256 == manifest else " (an earlier state of the bundle)")
        for pushed in (() if run is None else pushed_archives(run))
    ]


def _describe(manifest: Manifest) -> list[tuple[str, str]]:
    pre, origin = manifest.preprocessing, manifest.origin
    where = "in the graph" if manifest.input.normalization_in_graph else "by the caller"
    norm = manifest.input.normalization
    crop = f", central {pre.crop_fraction:.1%}" if pre.resize == "crop" else ""
    decoded = ", large JPEGs decoded at a reduced size" if pre.reduced else ""
    lines = [
        ("bundle", manifest.name),
        ("labels", f"{len(manifest.labels)}: {', '.join(manifest.labels)}"),
        ("preprocessing", f"RGB, {pre.resize} to {pre.height} x {pre.width}, {pre.interpolation}{crop}{decoded}"),
        ("input", f"{manifest.input.name}: {manifest.input.dtype} {_shape(manifest.input.shape)}"),
        ("normalisation", f"{where}: mean {_numbers(norm.mean)}, std {_numbers(norm.std)} of pixels in 0..1"),
        *(
            ("output", f"{output.name}: {output.dtype} {_shape(output.shape)}, {output.meaning}")
            for output in manifest.outputs
        ),
    ]
    for artifact in manifest.artifacts:
        lines += _describe_artifact(artifact)
    lines += [("speed" if number == 0 else "", line) for number, line in enumerate(_speeds(manifest))]
    if (evaluation := manifest.evaluation) is not None:
        low, high = evaluation.top1_interval.low, evaluation.top1_interval.high
        lines.append(("test accuracy", f"{evaluation.top1:.2%} [{low:.2%}, {high:.2%}] on {evaluation.images} images"))
    lines += [
        ("backbone", f"{origin.backbone}, starting weights: {origin.weights}"),
        ("licence", origin.weights_license or "not known"),
        ("data", origin.data),
        ("made", f"{origin.provenance.created} by toolkit {origin.provenance.toolkit}, run {origin.run}"),
    ]
    return lines


def _describe_artifact(artifact: ArtifactRecord) -> list[tuple[str, str]]:
    opset = f", opset {artifact.opset}, IR {artifact.ir_version}" if artifact.opset else ""
    lines = [
        (
            "artifact",
            f"{artifact.file}: {artifact.format}, {artifact.precision}, {artifact.total_bytes / 1e6:.1f} MB{opset}, "
            f"{artifact.producer}",
        )
    ]
    parity = artifact.parity
    if parity is None:
        lines.append(("", "not verified yet: toolkit verify"))
    elif parity.passed:
        error = (
            f", largest logit error {parity.max_absolute_logits:.1e}" if parity.max_absolute_logits is not None else ""
        )
        lines.append(("", f"parity passed on {parity.test_images} test images ({parity.device}){error}"))
        lines += [("", sentence) for sentence in parity.limits]
    else:
        lines += [("", f"parity FAILED: {reason}") for reason in parity.failures]
    return lines


def _speeds(manifest: Manifest) -> list[str]:
    """Return a table with a column for each batch size, figures to the right."""
    from toolkit.bundle.speeds import speed_table

    table = speed_table(manifest.artifacts)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))] if table else []
    figures = range(2, len(widths) - 1)
    return [
        "  ".join(
            cell.rjust(width) if column in figures else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _shape(shape: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(str(axis) for axis in shape) + "]"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
