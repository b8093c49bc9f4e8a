"""Good artifacts broken on purpose: which faults ``toolkit verify`` catches, and whether it refuses a good one."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.faults.cases import Cases
from benchmarks.faults.catalogue import ALONE, FAULTS
from benchmarks.faults.copies import copied
from benchmarks.faults.fault import FileFault, NetworkFault, NotApplicableError
from benchmarks.faults.judge import judge
from benchmarks.faults.ledger import LEDGER, Case, Ledger
from benchmarks.harness.child import run_child
from benchmarks.harness.command_line import main, positive, report_parser, workspace
from benchmarks.harness.finetuning import toolkit_command
from benchmarks.harness.report import Claim, Report, Table, finish
from toolkit.errors import ExportError, first_line
from toolkit.run_folder import RunFolder

NAME = "fault_detection"
BACKBONES: Mapping[str, Sequence[str]] = {
    "timm:tf_efficientnet_lite0": ("--stage1-epochs", "6", "--stage2-epochs", "2"),
    "torchvision:resnet18": (
        "--weights",
        "none",
        "--stage1-epochs",
        "1",
        "--stage2-epochs",
        "3",
        "--stage2-unfreeze",
        "4",
    ),
    "torchvision:shufflenet_v2_x0_5": (
        "--weights",
        "none",
        "--stage1-epochs",
        "1",
        "--stage2-epochs",
        "10",
        "--stage2-unfreeze",
        "5",
    ),
}
"""Backbones with what ``toolkit finetune --recipe digits`` is told besides: two start from random weights, which need
training throughout."""
AGAIN = ("--stage1-epochs", "3", "--stage2-epochs", "1", "--stage2-unfreeze", "1")
"""How a run is trained that starts from the first run of its backbone, with another seed: a new head, other images, the
last block anew."""
FORMATS = "onnx,torchscript,onnx-int8,onnx-fp16"
GOOD = ("onnx", "onnx-int8", "onnx-fp16")
LEAST = 40
"""Kinds of faults."""


def make_run(backbone: str, seed: int, folder: Path, formats: str) -> RunFolder:
    """Fine-tune on the embedded digits and export, where that was not done before.

    Raises:
        BenchmarkError: one of the two failed.
    """
    first, run = (RunFolder(folder / f"{backbone.rpartition(':')[2]}-{number}") for number in (0, seed))
    place = ["--run", run.name, "--artifacts", str(folder)]
    if not run.record_file.is_file():
        shutil.rmtree(run.path, ignore_errors=True)
        options = ("--weights", str(first.model_file), *AGAIN) if seed else BACKBONES[backbone]
        run_child(
            [
                *toolkit_command(),
                "finetune",
                "--recipe",
                "digits",
                "--backbone",
                backbone,
                *options,
                "--seed",
                str(seed),
                *place,
            ]
        )
    if not run.bundle.is_dir():
        # 1: a format that no artifact was good enough for, which the manifest tells.
        run_child([*toolkit_command(), "export", "--formats", formats, *place], allowed=(0, 1))
    return run


def try_faults(backbone: str, only: Sequence[str], work: Path, keep: bool, ledger: Ledger) -> None:
    """Plant every fault that was not planted before, or those named, into a run of a backbone."""
    run = make_run(backbone, 0, work, FORMATS)
    cases = Cases(run, make_run(backbone, 1, work, ",".join(GOOD)))
    for fault in (*FAULTS, *ALONE):
        if fault.name in only if only else (run.name, fault.name, fault.format) not in ledger:
            untried = Case(run.name, backbone, fault.name, fault.what, fault.format, None, "")
            broken = work / "broken" / run.name / f"{fault.name}.onnx" if keep else None
            ledger.add(try_fault(fault, cases, untried, broken))


def try_fault(fault: NetworkFault | FileFault, cases: Cases, untried: Case, kept: Path | None) -> Case:
    """Plant one fault, and keep its ONNX file if a place for it is given."""
    try:
        with cases.tried(fault) as tried:
            if kept and tried.artifact:
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(tried.artifact, kept)
    except NotApplicableError as error:
        return replace(untried, by=str(error))
    except ExportError as error:
        return replace(untried, by=f"it cannot be exported: {first_line(error)}")
    file = "/".join(kept.parts[-3:]) if kept and tried.artifact else ""
    return replace(untried, caught=tried.verdict.caught, by=tried.verdict.by, effect=tried.effect, file=file)


def judge_good(backbone: str, seed: int, work: Path, keep: bool, ledger: Ledger) -> None:
    """Judge each artifact of a good run alone."""
    name = f"{backbone.rpartition(':')[2]}-{seed}"
    if all((name, "", artifact) in ledger for artifact in GOOD):
        return
    first = make_run(backbone, 0, work, FORMATS)
    run = make_run(backbone, seed, work, ",".join(GOOD)) if seed else first
    for artifact in GOOD:
        try:
            with copied(run, artifact) as whole:
                verdict = judge(whole)
            ledger.add(Case(run.name, backbone, "", "good", artifact, verdict.caught, verdict.by))
        except NotApplicableError as error:
            ledger.add(Case(run.name, backbone, "", "good", artifact, None, str(error)))
    if seed and not keep:
        shutil.rmtree(run.path)


def report(cases: Sequence[Case]) -> Report:
    """Judge, and write down."""
    faults = [case for case in cases if case.name and case.caught is not None]
    good = [case for case in cases if not case.name and case.caught is not None]
    backbones = [backbone for backbone in BACKBONES if any(case.backbone == backbone for case in cases)]
    names = list(dict.fromkeys(case.name for case in faults))
    cells = {(case.name, case.backbone): _cell(case) for case in cases if case.name}
    what = {case.name: case.what for case in cases}
    rows = [(name, what[name], *(cells.get((name, backbone), "not run") for backbone in backbones)) for name in names]
    tally = [
        (artifact, str(len(judged)), str(sum(bool(case.caught) for case in judged)))
        for artifact in GOOD
        if (judged := [case for case in good if case.format == artifact])
    ]
    return Report(
        name=NAME,
        title="Faults that toolkit verify catches",
        settings={
            "data": "digits",
            "image size": "64 px",
            "test images": 359,
            "good runs": len({case.run for case in good}),
        },
        claims=_claims(faults, good),
        tables=[
            Table(("fault", "what is wrong", *backbones), rows),
            Table(("good artifacts", "judged", "refused"), tally),
        ],
        notes=[
            "A fault is planted into the network before it is exported, or into the bundle; where a careless "
            "exporter would have written the "
            "manifest after the fault, its hashes are brought up to date. What follows 'caught by' are the checks "
            "that failed, or the sentence "
            "that refused the bundle; the number is how far the fault moves an output, of the largest logit of a "
            "row, in float64.",
            "A change that moves no output by more than rounding does is not counted as a fault.",
            "Good runs are those that are broken here, and others that start from their weights with another seed: "
            "another split into training, "
            "validation and test images, a new head, the last block trained again, other calibration images.",
            *(
                f"Not tried on {case.run}: {case.name or case.format}: {case.by}."
                for case in cases
                if case.caught is None
            ),
        ],
        measurements={"cases": [asdict(case) for case in cases]},
    )


def _claims(faults: Sequence[Case], good: Sequence[Case]) -> list[Claim]:
    by_backbone = {backbone: {case.name for case in faults if case.backbone == backbone} for backbone in BACKBONES}
    fewest = min(len(names) for names in by_backbone.values())
    caught, refused = sum(bool(case.caught) for case in faults), sum(bool(case.caught) for case in good)
    runs = len({case.run for case in good})
    kinds = f"{len(set().union(*by_backbone.values()))} kinds, {fewest} or more on each backbone"
    return [
        Claim(f"at least {LEAST} kinds of faults on {len(BACKBONES)} backbones", kinds, fewest >= LEAST),
        Claim("every fault is caught", f"{caught} of {len(faults)}", caught == len(faults) > 0),
        Claim(
            "no good artifact is refused",
            f"{refused} of {len(good)} refused, of {runs} runs",
            refused == 0 and bool(good),
        ),
    ]


def _cell(case: Case) -> str:
    if case.caught is None:
        return "not tried"
    effect = f" ({case.effect})" if case.effect[:1].isdigit() or case.effect == "not finite" else ""
    return (f"caught by {case.by}" if case.caught else "**missed**") + effect


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument(
        "--work",
        type=Path,
        metavar="FOLDER",
        help="runs and finished cases, to go on with later (default: temporary)",
    )
    parser.add_argument(
        "--backbone",
        action="append",
        choices=list(BACKBONES),
        help="only this one; may be given several times (default: all)",
    )
    parser.add_argument("--only", choices=("faults", "good"), default=None, help="only one half (default: both)")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        choices=[fault.name for fault in (*FAULTS, *ALONE)],
        metavar="NAME",
        help="only this one, and again; may be given several times",
    )
    parser.add_argument("--good-seeds", type=positive, default=20, metavar="N", help="good runs, the backbones in turn")
    parser.add_argument("--keep", action="store_true", help="keep runs and broken files in --work, for fault_peers")
    return parser.parse_args(arguments)


def benchmark(arguments: Sequence[str]) -> int:
    """Make runs, break them, and write the report over all that --work holds."""
    options = parse(arguments)
    backbones = options.backbone or list(BACKBONES)
    with workspace(None) as temporary:
        work = (options.work or temporary).resolve()
        work.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(work / LEDGER)
        if options.only != "good":
            for backbone in backbones:
                try_faults(backbone, options.fault, work, options.keep, ledger)
        if options.only != "faults" and not options.fault:
            for number in range(options.good_seeds):
                seed, position = divmod(number, len(BACKBONES))
                if (backbone := list(BACKBONES)[position]) in backbones:
                    judge_good(backbone, seed, work, options.keep, ledger)
        return finish(report(list(ledger)), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
