"""``toolkit export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.options import ArtifactsOption, QuietOption, RunOption


def command(
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    formats: Annotated[str | None, typer.Option("--formats", metavar="A,B", help="Formats, separated by commas (default: the recipe's).")] = None,
    graph_input: Annotated[
        str | None,
        typer.Option("--input", metavar="[images|tensor]", help="uint8 images with normalisation in the graph, or a normalised float tensor."),
    ] = None,
    opset: Annotated[int | None, typer.Option("--opset", help="ONNX opset (default: the exporter's recommended one).")] = None,
    quiet: QuietOption = False,
) -> None:
    """Export a run to TorchScript and ONNX in one checked bundle.

    Writes RUN/bundle: the artifacts, manifest.json, golden samples and a model card. An older bundle is replaced as a whole.
    """
    from toolkit.cli.console import reporter
    from toolkit.export import export_run
    from toolkit.runs import find_run

    folder = find_run(run, artifacts)
    changes = {"export.formats": formats, "export.input": graph_input, "export.opset": opset}
    options = folder.recipe().override({key: value for key, value in changes.items() if value is not None}).export
    manifest = export_run(folder, formats=options.formats, graph_input=options.input, opset=options.opset, reporter=reporter(quiet))
    typer.echo(f"bundle {folder.bundle}")
    for artifact in manifest.artifacts:
        detail = f"opset {artifact.opset}, IR {artifact.ir_version}, " if artifact.opset else ""
        typer.echo(
            f"  {artifact.file:24} {artifact.format:12} {artifact.precision:8} {artifact.size_bytes / 1e6:7.1f} MB  {detail}{artifact.producer}"
        )
