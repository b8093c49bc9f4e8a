"""Good artifacts broken on purpose: which faults ``toolkit verify`` catches, and whether it refuses a good one."""

from __future__ import annotations

import argparse
import copy
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import _common as common
import _file_faults as files
import _network_faults as networks
import numpy as np
import onnx
import torch
from _child import BenchmarkError, run_child
from _common import Claim, Report, Table
from _file_faults import FileFault
from _network_faults import NetworkFault, NotApplicableError

from toolkit.backbones.deployable import Deployable
from toolkit.backbones.restore import load_deployable
from toolkit.bundle.folder import read_manifest
from toolkit.bundle.manifest import Manifest
from toolkit.bundle.update import write_manifest
from toolkit.errors import ToolkitError, first_line
from toolkit.files import sha256_file
from toolkit.formats.base import ExportRequest
from toolkit.formats.half import to_float16
from toolkit.formats.onnx_graph import name_nodes
from toolkit.formats.registry import get_format
from toolkit.runs import RunFolder
from toolkit.verify.expected import metadata_of
from toolkit.verify.run import verify_run

NAME = "fault_detection"
OUTPUTS = ("logits", "probabilities")
BACKBONES: Mapping[str, Sequence[str]] = {
    "timm:tf_efficientnet_lite0": (),
    "torchvision:resnet18": ("--weights", "none", "--stage2-unfreeze", "4"),
    "torchvision:mobilenet_v2": ("--weights", "none", "--stage2-unfreeze", "100"),
}
"""Backbones with what ``toolkit finetune --recipe digits`` is told besides: two start from random weights, which need training throughout."""
FORMATS = "onnx,torchscript,onnx-int8,onnx-fp16"
GOOD = ("onnx", "onnx-int8", "onnx-fp16")
LEAST = 40
"""Kinds of faults."""


@dataclass(frozen=True)
class Outcome:
    """What ``toolkit verify`` said of one artifact."""

    caught: bool
    by: str
    """Names of the checks that failed, or the sentence that refused the bundle."""


def make_run(backbone: str, seed: int, folder: Path, formats: str) -> RunFolder:
    """Fine-tune on the embedded digits and export.

    Raises:
        BenchmarkError: one of the two failed.
    """
    name = f"{backbone.rpartition(':')[2]}-{seed}"
    place = ["--artifacts", str(folder)]
    command = [*common.toolkit_command(), "finetune", "--recipe", "digits", "--backbone", backbone, *BACKBONES[backbone]]
    run_child([*command, "--seed", str(seed), "--run", name, *place])
    run_child([*common.toolkit_command(), "export", "--run", name, "--formats", formats, *place])
    return RunFolder(folder / name)


def judge(run: RunFolder) -> Outcome:
    """Ask ``toolkit verify``."""
    try:
        report = verify_run(run)
    except ToolkitError as error:
        return Outcome(True, f"refused: {first_line(error)}")
    failed = [check.name for artifact in report.artifacts for check in artifact.checks if not check.passed]
    failed += [check.name for check in report.checks if not check.passed]
    return Outcome(not report.passed, ", ".join(dict.fromkeys(failed)))


@contextmanager
def copied(run: RunFolder, artifact: str) -> Iterator[RunFolder]:
    """Yield a copy of a run whose bundle has one artifact, and remove it.

    Raises:
        NotApplicableError: the run has no such artifact.
    """
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        copied_run = RunFolder(Path(place) / run.name)
        shutil.copytree(run.path, copied_run.path)
        keep_one(copied_run.bundle, artifact)
        yield copied_run


def keep_one(bundle: Path, artifact: str) -> None:
    """Leave a bundle with one artifact."""
    manifest = read_manifest(bundle)
    kept = [one for one in manifest.artifacts if one.format == artifact]
    if not kept:
        reasons = [one.reason for one in manifest.not_exported if one.format == artifact]
        raise NotApplicableError(f"it has no {artifact} artifact ({reasons[0] if reasons else 'not exported'})")
    for other in manifest.artifacts:
        if other.format != artifact:
            for file in (other.file, *other.further_files):
                (bundle / file).unlink()
    write_manifest(bundle, manifest.model_copy(update={"artifacts": tuple(kept)}))


def seal(bundle: Path) -> None:
    """Bring size and hash of the artifact up to date."""
    manifest = read_manifest(bundle)
    artifacts = [
        one.model_copy(update={"sha256": sha256_file(bundle / one.file), "size_bytes": (bundle / one.file).stat().st_size})
        for one in manifest.artifacts
    ]
    write_manifest(bundle, manifest.model_copy(update={"artifacts": tuple(artifacts)}))


def export_broken(network: torch.nn.Module, run: RunFolder, format_name: str, fixed_batch: int | None) -> None:
    """Put another network into the place of the artifact, exported as the right one was."""
    manifest = read_manifest(run.bundle)
    artifact = manifest.artifacts[0]
    path = run.bundle / artifact.file
    sample = torch.from_numpy(np.zeros((2, *manifest.input.shape[1:]), np.uint8))
    request = ExportRequest(manifest.input.name, OUTPUTS, metadata_of(manifest), artifact.opset)
    network.eval()
    if fixed_batch is not None:
        export_fixed(network, sample[:1].expand(fixed_batch, *sample.shape[1:]).contiguous(), path, manifest)
        return
    get_format(format_name).export(network, sample, path, request, None)


def export_fixed(network: torch.nn.Module, sample: torch.Tensor, path: Path, manifest: Manifest) -> None:
    """Export as a script without ``dynamic_shapes`` does."""
    program = torch.onnx.export(network, (sample,), dynamo=True, input_names=[manifest.input.name], output_names=list(OUTPUTS), verbose=False)
    if program is None:
        raise BenchmarkError("torch.onnx.export returned no program.")
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata_of(manifest))
    onnx.save_model(model, path)


def try_network_fault(fault: NetworkFault, run: RunFolder, right: Deployable) -> Outcome:
    """Break the network, export it in the place of the right one, and ask."""
    with copied(run, fault.format) as broken:
        export_broken(fault.apply(copy.deepcopy(right)), broken, fault.format, fault.fixed_batch)
        seal(broken.bundle)
        return judge(broken)


def try_file_fault(fault: FileFault, run: RunFolder) -> Outcome:
    """Break the bundle and ask."""
    with copied(run, fault.artifact) as broken:
        fault.apply(broken.bundle)
        if fault.sealed:
            seal(broken.bundle)
        return judge(broken)


def try_overflow(run: RunFolder, right: Deployable) -> Outcome:
    """Convert a network to float16 that is right in float32 and overflows in float16."""
    with copied(run, "onnx-fp16") as broken:
        manifest = read_manifest(broken.bundle)
        path = broken.bundle / manifest.artifacts[0].file
        sample = torch.from_numpy(np.zeros((2, *manifest.input.shape[1:]), np.uint8))
        request = ExportRequest(manifest.input.name, OUTPUTS, metadata_of(manifest))
        get_format("onnx").export(files.overflowing(copy.deepcopy(right)), sample, path, request, None)
        model = onnx.load_model(path)
        name_nodes(model)
        onnx.save_model(to_float16(model, set()), path)
        seal(broken.bundle)
        return judge(broken)


def try_other_artifact(run: RunFolder, other: RunFolder) -> Outcome:
    """Put the artifact of another training of the same backbone beside the manifest of this one."""
    with copied(run, "onnx") as broken:
        artifact = read_manifest(broken.bundle).artifacts[0].file
        shutil.copyfile(other.bundle / artifact, broken.bundle / artifact)
        seal(broken.bundle)
        return judge(broken)


def outcomes(run: RunFolder, other: RunFolder) -> Iterator[tuple[str, str, Outcome | None, str]]:
    """Yield name and description of each fault, and what came of it; None with the reason where it cannot be tried."""
    right = load_deployable(run, run.record(), True)
    tries = [(fault.name, fault.what, lambda fault=fault: try_network_fault(fault, run, right)) for fault in networks.FAULTS]
    tries += [(fault.name, fault.what, lambda fault=fault: try_file_fault(fault, run)) for fault in files.FAULTS]
    tries.append(("float16-overflow", "activations beyond the range of float16", lambda: try_overflow(run, right)))
    tries.append(("old-artifact", "the artifact of an earlier training beside new weights", lambda: try_other_artifact(run, other)))
    for name, what, attempt in tries:
        try:
            outcome = attempt()
        except NotApplicableError as error:
            yield name, what, None, str(error)
            continue
        print(f"  {name:32} {'caught by ' + outcome.by if outcome.caught else 'MISSED'}", flush=True)
        yield name, what, outcome, ""


def good_outcomes(seeds: int, folder: Path) -> Iterator[tuple[str, int, str, Outcome]]:
    """Yield backbone, seed and format of good artifacts, and what was said of them; the backbones take turns."""
    names = list(BACKBONES)
    for seed in range(seeds):
        backbone = names[seed % len(names)]
        run = make_run(backbone, 100 + seed, folder, ",".join(GOOD))
        for artifact in GOOD:
            try:
                with copied(run, artifact) as whole:
                    outcome = judge(whole)
            except NotApplicableError as error:
                print(f"  {run.name} {artifact}: {error}", flush=True)
                continue
            print(f"  {run.name} {artifact}: {'REFUSED by ' + outcome.by if outcome.caught else 'passed'}", flush=True)
            yield backbone, seed, artifact, outcome
        shutil.rmtree(run.path)


def claims(found: Mapping[str, Mapping[str, Outcome]], good: Sequence[Outcome]) -> list[Claim]:
    """Judge."""
    every = [outcome for each in found.values() for outcome in each.values()]
    kinds = sum(bool(each) for each in found.values())
    refused = sum(outcome.caught for outcome in good)
    return [
        Claim(f"at least {LEAST} kinds of faults on {len(BACKBONES)} backbones", f"{kinds} kinds, {len(every)} broken artifacts", kinds >= LEAST),
        Claim("every fault is caught", f"{sum(outcome.caught for outcome in every)} of {len(every)}", all(outcome.caught for outcome in every)),
        Claim("no good artifact is refused", f"{refused} of {len(good)} refused", refused == 0 and bool(good)),
    ]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--good-seeds", type=common.positive, default=20, metavar="N", help="good runs, the backbones in turn")
    parser.add_argument("--output", type=Path, default=common.RESULTS, metavar="FOLDER", help="where the report is written")
    parser.add_argument("--work", type=Path, default=None, metavar="FOLDER", help="where temporary files go (default: the system's)")
    return parser.parse_args(arguments)


def benchmark(arguments: Sequence[str]) -> int:
    """Make runs, break them, and write the report."""
    options = parse(arguments)
    found: dict[str, dict[str, Outcome]] = {}
    described: dict[str, str] = {}
    skipped: list[str] = []
    with common.workspace(options.work) as work:
        for backbone in BACKBONES:
            print(backbone, flush=True)
            run, other = (make_run(backbone, seed, work, FORMATS) for seed in (0, 1))
            for name, what, outcome, reason in outcomes(run, other):
                described[name] = what
                each = found.setdefault(name, {})
                if outcome is None:
                    skipped.append(f"{name} on {backbone}: {reason}")
                else:
                    each[backbone] = outcome
        good = list(good_outcomes(options.good_seeds, work))
    rows = [(name, described[name], *(_cell(each.get(backbone)) for backbone in BACKBONES)) for name, each in found.items()]
    tally = [(artifact, *_tally([outcome for _, _, kind, outcome in good if kind == artifact])) for artifact in GOOD]
    report = Report(
        name=NAME,
        title="Faults that toolkit verify catches",
        settings={"good runs": options.good_seeds, "data": "digits", "image size": "64 px"},
        claims=claims(found, [outcome for *_, outcome in good]),
        tables=[Table(("fault", "what is wrong", *BACKBONES), rows), Table(("good artifacts", "judged", "refused"), tally)],
        notes=[
            "A fault is planted into the network before it is exported, or into the bundle; where a careless exporter would have written the "
            "manifest after the fault, its hashes are brought up to date. 'Caught by' names the checks that failed.",
            *(f"Not tried: {line}." for line in skipped),
        ],
        measurements={
            "faults": {name: {backbone: asdict(outcome) for backbone, outcome in each.items()} for name, each in found.items()},
            "good": [[backbone, seed, artifact, asdict(outcome)] for backbone, seed, artifact, outcome in good],
        },
    )
    return common.finish(report, options.output, arguments)


def _cell(outcome: Outcome | None) -> str:
    return "not tried" if outcome is None else f"caught by {outcome.by}" if outcome.caught else "**missed**"


def _tally(judged: Sequence[Outcome]) -> tuple[str, str]:
    return str(len(judged)), str(sum(outcome.caught for outcome in judged))


if __name__ == "__main__":
    common.main(benchmark)
