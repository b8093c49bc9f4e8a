"""``toolkit compare``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.bench import batch_sizes_of
from toolkit.cli.options import AllowCodeOption, ArtifactsOption, BenchDeviceOption, QuietOption, ThreadsOption
from toolkit.cli.place import find_place
from toolkit.errors import FileWriteError, ToolkitError
from toolkit.files import expanded, require_writable

if TYPE_CHECKING:
    from toolkit.comparison import Figures, Side
    from toolkit.results import Comparison

BATCH_SIZES = "1,32"


def command(
    a: Annotated[
        str, typer.Argument(metavar="A", help="What is compared with: a bench.json, a run, or a bundle's folder.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="What may be faster or slower, better or worse: the same.")],
    artifacts: ArtifactsOption = Path("artifacts"),
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the artifacts of both now, in turns: the surest comparison.")
    ] = False,
    fail_over: Annotated[
        str | None,
        typer.Option(
            "--fail-over",
            metavar="PERCENT",
            help="Exit code 1 if B is slower by more than this, e.g. 5%, with its whole interval.",
        ),
    ] = None,
    fail_accuracy_over: Annotated[
        str | None,
        typer.Option(
            "--fail-accuracy-over",
            metavar="PERCENT",
            help="Exit code 1 if B loses more of the test images than this, e.g. 0.5%, with its whole interval.",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="ROW,ROW",
            help="Compare these rows alone, e.g. onnx: the fewer, the narrower are all intervals.",
        ),
    ] = None,
    any_machine: Annotated[
        bool, typer.Option("--any-machine", help="Compare reports of different machines, too.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML, which CI services show as tests.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write Markdown for a pull request.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON.")] = None,
    device: BenchDeviceOption = "auto",
    threads: ThreadsOption = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option("--batch-sizes", metavar="A,B", help=f"Batch sizes of --measure (default: {BATCH_SIZES})."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", metavar="N", min=6, max=1000, help="Rounds of --measure (default: 15).")
    ] = None,
    allow_code: AllowCodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what of B is faster or slower than A, and whether it is right more or less often.

    All intervals hold together: of comparisons in which nothing differs, at most 5% call any difference. Exit code 1 if
    a limit was passed (--fail-over, --fail-accuracy-over), 2 if anything that A has could not be judged.
    """
    throughput, accuracy = _share("--fail-over", fail_over), _share("--fail-accuracy-over", fail_accuracy_over)
    how = {
        "--device": device if device != "auto" else None,
        "--threads": threads,
        "--batch-sizes": batch_sizes,
        "--rounds": rounds,
        "--allow-code": allow_code or None,
    }
    _require_sense(measure, any_machine, how)
    names = tuple(dict.fromkeys(part.strip() for part in (only or "").split(",") if part.strip()))
    sizes = batch_sizes_of(batch_sizes or BATCH_SIZES)
    first, second = (_side(text, artifacts) for text in (a, b))
    _require_files([file for file in (junit, markdown, json) if file is not None], first, second)
    from toolkit.cli.console import output, reporter
    from toolkit.comparison import Limits, compare_figures
    from toolkit.report import print_comparison

    if measure:
        from toolkit.bench import BenchOptions
        from toolkit.comparison.together import ROUNDS, measure_together

        options = BenchOptions(device, threads, sizes, rounds or ROUNDS, allow_code=allow_code)
        figures = measure_together(first, second, options, only=names, reporter=reporter(quiet))
    else:
        figures = _known(first, second)
    limits = Limits(throughput, accuracy)
    comparison = compare_figures(*figures, limits, only=names, interleaved=measure, any_machine=any_machine)
    _write(comparison, junit, markdown, json)
    print_comparison(comparison, output())
    _end(comparison)


def _side(text: str, artifacts: Path) -> Side:
    """Return what was meant: a file is a report, anything else a run or a bundle."""
    from toolkit.comparison import side_of_bundle, side_of_report, side_of_run

    path = expanded(text)
    if path.suffix == ".json" and path.is_file():
        return side_of_report(path)
    place = find_place(text, None, artifacts)
    return side_of_bundle(place.path) if place.run is None else side_of_run(place.run)


def _known(first: Side, second: Side) -> tuple[Figures, Figures]:
    """Return the figures that exist already.

    Raises:
        ToolkitError: both sides are one measurement.
    """
    from toolkit.comparison import one_measurement

    figures = first.figures(), second.figures()
    if one_measurement(*figures):
        raise ToolkitError(
            f"A and B hold one and the same measurement, of {first.given} and {second.given}: give two that were "
            "measured apart, or measure both now with --measure."
        )
    return figures


def _share(option: str, text: str | None) -> float | None:
    """Read a percentage.

    Raises:
        ToolkitError: it is none, or not between 0 and 100.
    """
    if text is None:
        return None
    number, sign, rest = text.strip().partition("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = math.nan
    if not sign or rest or not 0 < share < 1:
        raise ToolkitError(f"{option} {text!r} is no loss that can be allowed: give a percentage, e.g. 5%.")
    return share


def _require_sense(measure: bool, any_machine: bool, how: Mapping[str, object]) -> None:
    """Refuse what would have no effect."""
    given = [option for option, value in how.items() if value is not None]
    if given and not measure:
        raise ToolkitError(f"{given[0]} says how to measure, and nothing is measured: add --measure, or leave it out.")
    if measure and any_machine:
        raise ToolkitError("--measure measures both sides on this machine: leave --any-machine out.")


def _require_files(files: Sequence[Path], first: Side, second: Side) -> None:
    """Refuse what cannot be written, or would replace what is compared, before anything is measured."""
    taken = [side.report.resolve() for side in (first, second) if side.report is not None]
    compared = [
        folder.resolve()
        for side in (first, second)
        for folder in (side.bundle, side.run.path if side.run is not None else None)
        if folder is not None
    ]
    for file in files:
        if not file.name or file.is_dir():
            raise FileWriteError(f"cannot write {file}: it is a folder. Name a file that is new or may be replaced.")
        if file.resolve() in taken:
            raise FileWriteError(f"cannot write {file}: it is compared, or named twice. Name another file.")
        if any(file.resolve().is_relative_to(folder) for folder in compared):
            raise FileWriteError(
                f"cannot write {file}: it lies in what is compared, and could replace a part. Name a place outside."
            )
        taken.append(file.resolve())
        require_writable(file.parent, f"{file} is to be written there: name another place.")


def _write(comparison: Comparison, junit: Path | None, markdown: Path | None, json: Path | None) -> None:
    from toolkit.files import write_text
    from toolkit.report import comparison_junit, comparison_markdown

    if json is not None:
        comparison.save(json)
    if junit is not None:
        write_text(junit, comparison_junit(comparison))
    if markdown is not None:
        write_text(markdown, comparison_markdown(comparison))


def _end(comparison: Comparison) -> None:
    """Leave with the exit code.

    Raises:
        ToolkitError: there was nothing to compare, or not all that a gate is for.
    """
    if any(gate.failures for gate in comparison.gates):
        raise typer.Exit(1)
    if names := " and ".join(gate.name for gate in comparison.gates if not gate.judged):
        raise ToolkitError(
            f"{names} could not be judged, because nothing of it can be compared: see the reasons above."
        )
    if partly := [gate for gate in comparison.gates if gate.not_judged]:
        lines = "; ".join(f"{gate.name}: {line}" for gate in partly for line in gate.not_judged)
        raise ToolkitError(
            f"not every line that A has could be judged ({lines}): make B's comparable, or name the rows that count "
            "with --only."
        )
    if comparison.tests == 0:
        raise ToolkitError("nothing of the two can be compared: see the reasons above.")
