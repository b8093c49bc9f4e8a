"""From a run to a bundle.

Build the ``Deployable``, write one artifact per format, add golden samples and the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from toolkit import provenance
from toolkit.backbones.deployable import Deployable, TorchSession, input_contract, output_contracts
from toolkit.backbones.restore import load_deployable
from toolkit.bundle.manifest import (
    MANIFEST_NAME,
    ArtifactRecord,
    FileRecord,
    InputContract,
    Manifest,
    Origin,
    RefusedArtifact,
)
from toolkit.bundle.trust.known import is_known, state_folder
from toolkit.bundle.writer import file_record, new_bundle, write_golden, write_manifest
from toolkit.data.calibration import calibration_of_run
from toolkit.data.of_run import load_test_split
from toolkit.errors import ExportError
from toolkit.files import sha256_file
from toolkit.formats.base import Calibration, Exported, ExportRequest, Format, NotExported
from toolkit.formats.profiles import resolve
from toolkit.formats.registry import get_format
from toolkit.progress import Reporter, Silent
from toolkit.recipe import ExportRecipe
from toolkit.runs import FinishedRun, RunFolder, RunRecord

GOLDEN_SAMPLES = 8
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
    deployable = load_deployable(run, takes_images)
    height, width = record.preprocessing.height, record.preprocessing.width
    contract = input_contract(record.normalization, height, width, takes_images)
    opset, ir_version = resolve(options.profile, options.opset, options.ir)
    request = ExportRequest(contract.name, ("logits", "probabilities"), _metadata(record, contract), opset, ir_version)
    with new_bundle(run.folder.bundle) as folder, ExitStack() as images:
        calibration = None
        if any(wanted.calibrates for wanted in chosen):
            calibration = images.enter_context(calibration_of_run(run, contract.encode, options.max_drop, reporter))
        outcomes = []
        with reporter.bar("export", len(chosen), "artifact") as bar:
            for wanted in chosen:
                images_of_it = calibration if wanted.calibrates else None
                outcomes.append(_export_artifact(wanted, deployable, contract, request, folder, images_of_it))
                bar.advance(format=wanted.name)
        manifest = write_manifest(
            folder,
            Manifest(
                name=run.folder.name,
                labels=record.labels,
                preprocessing=record.preprocessing,
                input=contract,
                outputs=output_contracts(len(record.labels)),
                artifacts=tuple(outcome for outcome in outcomes if isinstance(outcome, ArtifactRecord)),
                not_exported=tuple(outcome for outcome in outcomes if isinstance(outcome, RefusedArtifact)),
                files=_write_golden(folder, deployable, contract, run, reporter),
                evaluation=run.folder.evaluation(),
                origin=_origin(run),
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
    folder: Path, deployable: Deployable, contract: InputContract, run: FinishedRun, reporter: Reporter
) -> dict[str, FileRecord]:
    record, test = run.record, load_test_split(run, reporter)
    # One image of each class in turn, so that swapped labels cannot agree by chance.
    firsts = [int(np.flatnonzero(test.targets == label)[0]) for label in np.unique(test.targets)]
    spread = np.unique(np.linspace(0, len(firsts) - 1, min(GOLDEN_SAMPLES, len(firsts))).round().astype(int))
    indices = np.array([firsts[position] for position in spread], dtype=np.int64)
    images = test.load(indices, record.preprocessing)
    outputs = TorchSession(deployable, "cpu", record.threads).run(contract.encode(images))
    labels = [record.labels[test.targets[index]] for index in indices]
    return write_golden(folder, images, outputs, [test.names[index] for index in indices], labels, record.labels)


def _origin(run: FinishedRun) -> Origin:
    record = run.record
    return Origin(
        run=record.name,
        recipe=run.recipe.to_toml(),
        backbone=record.backbone,
        weights=record.weights,
        model_sha256=record.model_sha256,
        data=record.data.source,
        data_fingerprints={name: split.fingerprint for name, split in record.data.splits.items()},
        provenance=provenance.collect(),
    )
