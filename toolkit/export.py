"""From a run to a bundle.

Build the ``Deployable``, write one artifact per format, add golden samples and the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from toolkit import provenance
from toolkit.backbones.deployable import Deployable, TorchSession, input_contract, output_contracts
from toolkit.backbones.exact import measure_rounding, outputs_in
from toolkit.backbones.restore import load_deployable
from toolkit.bundle.content import Content
from toolkit.bundle.edges import golden_edges
from toolkit.bundle.manifest import (
    MANIFEST_NAME,
    ArtifactRecord,
    FileRecord,
    InputContract,
    Manifest,
    Origin,
    RefusedArtifact,
    golden_source,
)
from toolkit.bundle.trust.known import is_known, state_folder
from toolkit.bundle.writer import GoldenFacts, file_record, new_bundle, write_golden, write_manifest
from toolkit.compare.golden import judged_by_class, measured_limits, usual_limits
from toolkit.compare.tolerances import TOLERANCES
from toolkit.compare.verdict import Outputs
from toolkit.data import Split
from toolkit.data.calibration import calibration_of_run
from toolkit.data.of_run import load_test_split
from toolkit.errors import ExportError, ToolkitError
from toolkit.files import sha256_file
from toolkit.formats.base import Calibration, Exported, ExportRequest, Format, NotExported
from toolkit.formats.profiles import resolve
from toolkit.formats.registry import get_format
from toolkit.formats.torch_session import torch_threads
from toolkit.progress import Reporter, Silent, working
from toolkit.recipe import ExportRecipe, last_part
from toolkit.results import GoldenLimits
from toolkit.run_folder import FinishedRun, RunFolder, RunRecord

GOLDEN_SAMPLES = 8
GOLDEN_CANDIDATES = 4
"""Images of a class that the golden one is chosen from."""
TRACE_BATCH = 2
"""Exporters treat a batch of 1 as a constant; 2 is the smallest that stays symbolic."""


def export_run(
    run: RunFolder | FinishedRun, *, options: ExportRecipe | None = None, reporter: Reporter | None = None
) -> Manifest:
    """Write ``bundle/`` of a run, replacing an older one as a whole.

    A format that makes no artifact because none would be good enough stands in the manifest under ``not_exported``.

    Args:
        run: a run that ``finetune`` has finished.
        options: formats, graph input, ONNX versions and allowed drop; the recipe's by default.
        reporter: where progress goes.

    Raises:
        RunError: the run is not finished, or its data have changed.
        ExportError: a format does not exist or cannot be used here, or the file is not what was asked for.
    """
    reporter = reporter or Silent()
    run = FinishedRun.of(run)
    record = run.record
    options = options or run.recipe.export
    chosen = _usable(options.formats)
    takes_images = options.input == "images"
    with working(reporter, "loading the network"):
        deployable = load_deployable(run, takes_images)
    height, width = record.preprocessing.height, record.preprocessing.width
    contract = input_contract(record.normalization, height, width, takes_images)
    opset, ir_version = resolve(options.profile, options.opset, options.ir)
    request = ExportRequest(contract.name, ("logits", "probabilities"), _metadata(record, contract), opset, ir_version)
    with (
        working(reporter, "making the bundle"),
        run.folder.only_writer(),
        ExitStack() as images,
        torch_threads(provenance.default_threads()),
        new_bundle(run.folder.bundle) as folder,
    ):
        calibration = None
        if any(wanted.calibrates for wanted in chosen):
            calibration = images.enter_context(calibration_of_run(run, contract.encode, options.max_drop, reporter))
        outcomes = []
        with reporter.bar("export", len(chosen), "artifacts") as bar:
            for wanted in chosen:
                with working(reporter, f"exporting {wanted.name}"):
                    images_of_it = calibration if wanted.calibrates else None
                    outcomes.append(_export_artifact(wanted, deployable, contract, request, folder, images_of_it))
                bar.advance(format=wanted.name)
        artifacts = tuple(outcome for outcome in outcomes if isinstance(outcome, ArtifactRecord))
        with working(reporter, "golden samples"):
            files = _write_golden(folder, deployable, contract, run, artifacts, reporter)
        manifest = write_manifest(
            folder,
            Manifest(
                name=run.folder.name,
                labels=record.labels,
                preprocessing=record.preprocessing,
                input=contract,
                outputs=output_contracts(len(record.labels), record.flip_test),
                artifacts=artifacts,
                not_exported=tuple(outcome for outcome in outcomes if isinstance(outcome, RefusedArtifact)),
                files=files,
                evaluation=run.folder.evaluation(),
                origin=_origin(run, options),
            ),
            own=True,
        )
        if any(wanted.carries_code for wanted in chosen) and not is_known((folder / MANIFEST_NAME).read_bytes()):
            reporter.line(
                f"{state_folder()} cannot be written, so nothing remembers that you have exported this bundle: other "
                "commands will open its artifacts that can carry code with --allow-code only. TOOLKIT_STATE names "
                "another folder."
            )
        return manifest


def _usable(names: tuple[str, ...]) -> list[Format]:
    chosen = [get_format(name) for name in dict.fromkeys(names)]
    for wanted in chosen:
        if reason := wanted.unavailable():
            raise ExportError(f"the format {wanted.name!r} cannot be used here: {reason}.")
    return chosen


def _export_artifact(
    chosen: Format,
    deployable: Deployable,
    contract: InputContract,
    request: ExportRequest,
    folder: Path,
    calibration: Calibration | None,
) -> ArtifactRecord | RefusedArtifact:
    path = folder / f"model{chosen.suffix}"
    if path.exists():
        raise ExportError(f"two formats want to write {path.name}: export them into two runs.")
    pixels = np.random.default_rng(0).integers(0, 256, (TRACE_BATCH, *deployable_size(contract), 3), dtype=np.uint8)
    sample = torch.from_numpy(contract.encode(pixels))
    before = set(folder.rglob("*"))
    outcome = chosen.export(deployable, sample, path, request, calibration)
    told = {path, *outcome.further_files} if isinstance(outcome, Exported) else set()
    _require_files(chosen, set(folder.rglob("*")) - before, told)
    if isinstance(outcome, NotExported):
        return RefusedArtifact(
            format=chosen.name, precision=chosen.precision, reason=outcome.reason, quantization=outcome.quantization
        )
    facts = chosen.facts(path)
    return ArtifactRecord(
        format=chosen.name,
        precision=chosen.precision,
        file=path.name,
        sha256=sha256_file(path),
        size_bytes=path.stat().st_size,
        opset=facts.opset,
        ir_version=facts.ir_version,
        producer=facts.producer,
        further_files={file.relative_to(folder).as_posix(): file_record(file) for file in outcome.further_files},
        portability=outcome.portability,
        usage=chosen.usage,
        kept_float32=outcome.kept_float32,
        quantization=outcome.quantization,
        family=chosen.family,
        engine=chosen.engine,
        carries_code=chosen.carries_code,
    )


def _require_files(chosen: Format, written: set[Path], told: set[Path]) -> None:
    """Raise where a format wrote other files than it says: what the manifest does not list, nobody checks."""
    if written != told:
        differing = ", ".join(sorted(path.name for path in written ^ told))
        raise ExportError(
            f"the format {chosen.name!r} did not write exactly the files it says it did ({differing}): update the "
            "package it is from."
        )


def deployable_size(contract: InputContract) -> tuple[int, int]:
    """Return height and width that a contract asks for."""
    axes = contract.shape[1:3] if contract.normalization_in_graph else contract.shape[2:4]
    return int(axes[0]), int(axes[1])


def _metadata(record: RunRecord, contract: InputContract) -> Mapping[str, str]:
    return {
        "toolkit.labels": json.dumps(record.labels, ensure_ascii=False),
        "toolkit.input": contract.model_dump_json(),
        "toolkit.preprocessing": record.preprocessing.model_dump_json(),
        "toolkit.run": record.name,
        "toolkit.backbone": record.backbone,
        "toolkit.model_sha256": record.model_sha256,
    }


def _write_golden(
    folder: Path,
    deployable: Deployable,
    contract: InputContract,
    run: FinishedRun,
    artifacts: Sequence[ArtifactRecord],
    reporter: Reporter,
) -> dict[str, FileRecord]:
    """Write test images and edge inputs, and what float64 says of them."""
    record, test = run.record, load_test_split(run, reporter)
    session = TorchSession(deployable, "cpu", record.threads)
    indices = _clearest(test, record, lambda images: session.run(contract.encode(images)))
    names, edges = golden_edges(record.preprocessing.height, record.preprocessing.width)
    images = np.concatenate([test.load(indices, record.preprocessing), edges])
    encoded = contract.encode(images)
    exact = outputs_in("float64", deployable, encoded, record.threads)
    expected = session.run(encoded) if exact is None else exact
    precisions = {"float32", *(artifact.precision for artifact in artifacts)}
    sources = [*(golden_source(int(index)) for index in indices), *names]
    labels = [*(record.labels[test.targets[index]] for index in indices), *(None for _ in names)]
    facts = GoldenFacts(
        edges=len(edges),
        rounding={}
        if exact is None
        else measure_rounding(deployable, encoded, exact["logits"], precisions, record.threads),
        limits=dict(_golden_limits(folder, artifacts, encoded, expected, len(indices), record.threads)),
    )
    return write_golden(folder, images, expected, sources, labels, record.labels, facts)


def _clearest(test: Split, record: RunRecord, run: Callable[[npt.NDArray[np.uint8]], Outputs]) -> npt.NDArray[np.int64]:
    """Choose golden images: of up to 8 classes, so that exchanged labels cannot agree by chance, one each.

    Of the first images of a class it is the one that the network is surest of: where it hesitates, an 8-bit artifact
    may rightly say another class.
    """
    classes = np.unique(test.targets)
    spread = np.unique(np.linspace(0, len(classes) - 1, min(GOLDEN_SAMPLES, len(classes))).round().astype(int))
    chosen = []
    for label in classes[spread]:
        candidates = np.flatnonzero(test.targets == label)[:GOLDEN_CANDIDATES]
        sure = run(test.load(candidates, record.preprocessing))["probabilities"][:, label]
        chosen.append(candidates[int(sure.argmax())])
    return np.array(chosen, np.int64)


def _golden_limits(
    folder: Path,
    artifacts: Sequence[ArtifactRecord],
    encoded: npt.NDArray[np.generic],
    expected: Outputs,
    images: int,
    threads: int,
) -> Iterator[tuple[str, GoldenLimits]]:
    """Yield file and limits of each artifact whose single values are not judged."""
    for artifact in artifacts:
        tolerance = TOLERANCES.get(artifact.precision)
        if tolerance is not None and judged_by_class(tolerance):
            try:
                session = get_format(artifact.format).open(_content(folder, artifact), "cpu", threads)
                limits = measured_limits(expected, session.run(encoded), images, tolerance)
            except (ToolkitError, RuntimeError):  # e.g. an engine that needs a device: then nothing is measured
                limits = usual_limits(expected, images, tolerance)
            yield artifact.file, limits


def _content(folder: Path, artifact: ArtifactRecord) -> Content:
    return Content.of(folder / artifact.file, *(folder / name for name in artifact.further_files))


def _origin(run: FinishedRun, options: ExportRecipe) -> Origin:
    record, asked = run.record, run.recipe.model_copy(update={"export": options})
    return Origin(
        run=record.name,
        recipe=asked.without_folders().to_toml(),
        backbone=record.backbone,
        weights=record.weights,
        weights_license=record.weights_license,
        model_sha256=record.model_sha256,
        data=last_part(record.data.source),
        data_fingerprints={name: split.fingerprint for name, split in record.data.splits.items()},
        provenance=provenance.collect(),
    )
