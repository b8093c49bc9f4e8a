"""``toolkit export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.completion import complete_formats
from toolkit.cli.hanging import echo_hanging
from toolkit.cli.next_steps import after, closing_line
from toolkit.cli.options import ArtifactsOption, PlaceArgument, QuietOption, RunOption
from toolkit.cli.place import find_place

if TYPE_CHECKING:
    from toolkit.bundle.manifest import ArtifactRecord, Manifest
    from toolkit.results import QuantizationSearch


def command(
    place: PlaceArgument = None,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    formats: Annotated[
        str | None,
        typer.Option(
            "--formats",
            metavar="A,B",
            help="Formats, separated by commas (default: the recipe's).",
            autocompletion=complete_formats,
        ),
    ] = None,
    graph_input: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="[images|tensor]",
            help="uint8 images with normalisation in the graph, or a normalised float tensor.",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="[wide|newest]",
            help="ONNX opset and IR version for the most readers, or the newest ones.",
        ),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(
            "--opset", metavar="N", help="ONNX opset (default: the profile's, or the exporter's recommended one)."
        ),
    ] = None,
    ir: Annotated[
        int | None,
        typer.Option("--ir", metavar="N", help="ONNX IR version (default: the profile's, or the exporter's own)."),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            metavar="POINTS",
            help="Points of validation accuracy that a quantised artifact may lose (default: 0.5).",
        ),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Export a run to TorchScript, ONNX and other formats in one checked bundle.

    Writes RUN/bundle: the artifacts, manifest.json, golden samples and a model card. An older bundle is replaced as a
    whole. Exit code 1 if no artifact of a format is good enough; the manifest says why and what was tried. 'toolkit
    formats' lists the formats.
    """
    finished = find_place(place, run, artifacts).finished_run("export makes bundles of runs")
    changes = {
        "formats": formats,
        "input": graph_input,
        "profile": profile,
        "opset": opset,
        "ir": ir,
        "max_drop": max_drop,
    }
    recipe = finished.recipe.override({f"export.{key}": value for key, value in changes.items() if value is not None})
    from toolkit.api.stages import require_exportable
    from toolkit.cli.console import reporter

    progress = reporter(quiet)
    require_exportable(finished, recipe.export, progress)
    from toolkit.export import export_run

    manifest = export_run(finished, options=recipe.export, reporter=progress)
    print_artifacts(manifest)
    closing_line(finished.folder.bundle, then=after("export", finished.folder) if manifest.artifacts else None)
    raise typer.Exit(1 if manifest.not_exported else 0)


def print_artifacts(manifest: Manifest) -> None:
    """Print what was exported, and what was not and why."""
    for artifact in manifest.artifacts:
        _show(artifact)
    for refused in manifest.not_exported:
        echo_hanging(f"  not exported: {refused.format}: ", refused.reason)
        if refused.quantization is not None:
            _show_search(refused.quantization)


def _show(artifact: ArtifactRecord) -> None:
    detail = f"opset {artifact.opset}, IR {artifact.ir_version}, " if artifact.opset else ""
    if artifact.portability == "same-machine":
        detail += "for this machine only, "
    size = f"{artifact.total_bytes / 1e6:7.1f} MB"
    echo_hanging(
        f"  {artifact.file:24} {artifact.format:12} {artifact.precision:8} {size}  ", f"{detail}{artifact.producer}"
    )
    if artifact.quantization is not None:
        _show_search(artifact.quantization)
    elif artifact.kept_float32:
        typer.echo(
            f"    {len(artifact.kept_float32)} nodes stay in float32, because their values do not fit: "
            f"{', '.join(artifact.kept_float32[:5])}"
        )


def _show_search(search: QuantizationSearch) -> None:
    """Print one line per candidate, the float32 graph first."""
    weights = (
        f"{search.activations} activations, {search.weights} weights of {search.weight_bits} bits ({search.processor})"
    )
    typer.echo(
        f"    {weights}; {search.calibration_images} training images, judged on {search.validation_images} "
        "validation images"
    )
    typer.echo(
        f"    {'float32':35} {search.float32_accuracy:8.2%}            {search.float32_images_per_second:7.0f} img/s"
    )
    for candidate in search.candidates:
        float32_nodes = f", {len(candidate.kept_float32)} nodes float32" if candidate.kept_float32 else ""
        name = f"{candidate.method}, per {'channel' if candidate.per_channel else 'tensor'}{float32_nodes}"
        figures = ""
        if candidate.validation_accuracy is not None and candidate.drop_points is not None:
            figures = f"{candidate.validation_accuracy:8.2%}  {0.0 - candidate.drop_points:+6.2f}    "
            figures += f"{candidate.images_per_second:7.0f} img/s" if candidate.images_per_second is not None else ""
        typer.echo(f"    {name:35} {figures}  {'* ' if candidate.chosen else ''}{candidate.outcome}")
