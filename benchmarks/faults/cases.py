"""One fault at a time.

Planted into a copy of a run, looked at whether it is a fault at all, and judged by ``toolkit verify``.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnx_ir
import torch

from benchmarks.faults import (
    files,
    layers,  # noqa: F401  # adds its faults to those of networks
    networks,
)
from benchmarks.faults.files import FileFault
from benchmarks.faults.networks import NetworkFault, NotApplicableError
from benchmarks.harness.errors import BenchmarkError
from toolkit.backbones.deployable import Deployable, TorchSession
from toolkit.backbones.restore import load_deployable
from toolkit.bundle.folder import read_manifest
from toolkit.bundle.manifest import InputContract, Manifest
from toolkit.bundle.writer import write_manifest
from toolkit.data.of_run import load_test_split
from toolkit.errors import ToolkitError, first_line
from toolkit.files import sha256_file
from toolkit.formats.base import ExportRequest
from toolkit.formats.half import to_float16
from toolkit.formats.onnx import save_checked
from toolkit.formats.onnx_graph import name_nodes, outside_layers
from toolkit.formats.registry import get_format
from toolkit.progress import Silent
from toolkit.runs import RunFolder
from toolkit.verify import run as verify
from toolkit.verify.exact import measure_exact
from toolkit.verify.expected import metadata_of, run_reference
from toolkit.verify.inputs import Inputs, draw, make_inputs

OUTPUTS = ("logits", "probabilities")
PROBES = 32
"""Test images on which a broken network is compared with the right one, beside the edge inputs of ``toolkit
verify``."""
ALONE = 4
"""Of these, how many are run on their own as well: some faults show only there."""


@dataclass(frozen=True)
class Verdict:
    """What ``toolkit verify`` said of one artifact."""

    caught: bool
    by: str
    """Names of the checks that failed, or the sentence that refused the bundle."""


@dataclass(frozen=True)
class Tried:
    """One fault, planted and judged."""

    verdict: Verdict
    effect: str
    """How far the fault moves an output, of the largest logit of a row; or why that is not measured."""
    artifact: Path | None
    """The broken file while its folder exists; None where no ONNX file is other than it should be."""


# --- Copies of a run


@contextmanager
def copied(run: RunFolder, artifact: str) -> Iterator[RunFolder]:
    """Yield a copy of a run whose bundle has one artifact, and remove it.

    What no fault touches is linked, not copied.

    Raises:
        NotApplicableError: the run has no such artifact.
    """
    with tempfile.TemporaryDirectory(prefix="fault-", dir=run.path.parent) as place:
        made = RunFolder(Path(place) / run.name)
        shutil.copytree(
            run.path,
            made.path,
            copy_function=os.link,
            ignore=shutil.ignore_patterns("bundle", "verify", "checkpoints", "bench"),
        )
        others = [one.file for one in read_manifest(run.bundle).artifacts if one.format != artifact]
        shutil.copytree(run.bundle, made.bundle, ignore=lambda _, names: [name for name in names if name in others])
        keep_one(made.bundle, artifact)
        yield made


def keep_one(bundle: Path, artifact: str) -> None:
    """Let a manifest list one artifact and no other."""
    manifest = read_manifest(bundle)
    kept = [one for one in manifest.artifacts if one.format == artifact]
    if not kept:
        reasons = [one.reason for one in manifest.not_exported if one.format == artifact]
        raise NotApplicableError(f"it has no {artifact} artifact ({reasons[0] if reasons else 'not exported'})")
    write_manifest(bundle, manifest.model_copy(update={"artifacts": tuple(kept)}))


def seal(bundle: Path) -> None:
    """Bring size and hash of the artifact up to date, as where the manifest was written after the fault."""
    manifest = read_manifest(bundle)
    artifacts = [
        one.model_copy(
            update={"sha256": sha256_file(bundle / one.file), "size_bytes": (bundle / one.file).stat().st_size}
        )
        for one in manifest.artifacts
    ]
    write_manifest(bundle, manifest.model_copy(update={"artifacts": tuple(artifacts)}))


_remembered: dict[tuple[str, str, frozenset[str]], Any] = {}


@contextmanager
def reference_once(run: RunFolder) -> Iterator[None]:
    """Let ``verify_run`` compute what PyTorch says of a run's images once.

    It is most of its time, and no fault changes it.
    """
    model = run.record().model_sha256

    def outputs(session: TorchSession, inputs: Inputs, contract: InputContract, on_batch: Callable[[int], None]) -> Any:
        key = (model, "outputs", frozenset[str]())
        if key not in _remembered:
            _remembered[key] = run_reference(session, inputs, contract, on_batch)
        return _remembered[key]

    def exact(*arguments: Any) -> Any:
        key = (model, "exact", frozenset(arguments[4]))
        if key not in _remembered:
            _remembered[key] = measure_exact(*arguments)
        return _remembered[key]

    with mock.patch.object(verify, "run_reference", outputs), mock.patch.object(verify, "measure_exact", exact):
        yield


def judge(run: RunFolder) -> Verdict:
    """Ask ``toolkit verify``."""
    try:
        with reference_once(run):
            report = verify.verify_run(run)
    except ToolkitError as error:
        return Verdict(True, f"refused: {first_line(error).replace(str(run.path.parent), '...')}")
    failed = [check.name for artifact in report.artifacts for check in artifact.checks if not check.passed]
    failed += [check.name for check in report.checks if not check.passed]
    return Verdict(not report.passed, ", ".join(dict.fromkeys(failed)))


# --- Whether a fault is one


class Probe:
    """A right network and some images: how far another network is from it, in float64, where rounding hides nothing."""

    def __init__(self, right: Deployable, images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
        """Take a network and uint8 images ``[n, H, W, 3]``."""
        self._images = torch.from_numpy(images)
        self._exact = self._run(copy.deepcopy(right).double())
        self.rounding = self._distance(self._exact, self._run(right))
        """How far PyTorch in float32 is from float64: less cannot be told from an output by anybody."""

    @classmethod
    def of_run(cls, run: RunFolder, right: Deployable) -> Probe:
        """Take test images and edge inputs as ``toolkit verify`` does."""
        record, seed = run.record(), run.recipe().seed
        test = load_test_split(run, record, Silent())
        drawn = draw(test.targets, PROBES, seed)
        names = tuple(test.names[index] for index in drawn)
        return cls(right, make_inputs(names, test.load(drawn, record.preprocessing), seed).images)

    def effect(self, broken: torch.nn.Module) -> float:
        """Return the largest change of an output, of the largest logit of its row; infinite where it is not finite.

        Raises:
            NotApplicableError: it is no larger than rounding.
        """
        return self._worth(self._distance(self._exact, self._run(copy.deepcopy(broken).double())))

    def effect_of_file(self, right: Path, broken: Path, format_name: str, contract: InputContract) -> float:
        """Return the same of an artifact beside the right one of its own format, both in that format's engine.

        Raises:
            NotApplicableError: it is no larger than rounding.
        """
        outputs = [self._run_file(path, format_name, contract) for path in (right, broken)]
        return self._worth(self._distance(*outputs))

    def _worth(self, found: float) -> float:
        if found <= self.rounding:
            raise NotApplicableError(
                f"it moves outputs by {found:.1e}, no more than rounding does ({self.rounding:.1e}): this is not a "
                "fault here"
            )
        return found

    def _run_file(
        self, path: Path, format_name: str, contract: InputContract
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        outputs = get_format(format_name).open(path, "cpu", 1).run(contract.encode(self._images.numpy()))
        return [(torch.from_numpy(outputs["logits"]), torch.from_numpy(outputs["probabilities"]))]

    def _run(self, network: torch.nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
        batches = [self._images, *(self._images[row : row + 1] for row in range(min(ALONE, len(self._images))))]
        with torch.inference_mode():
            return [network.eval()(batch) for batch in batches]

    @staticmethod
    def _distance(
        expected: list[tuple[torch.Tensor, torch.Tensor]], outputs: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> float:
        worst = 0.0
        for exact, found in zip(expected, outputs, strict=True):
            scale = exact[0].double().abs().amax(dim=1, keepdim=True)
            for right, actual, size in ((exact[0], found[0], scale), (exact[1], found[1], torch.ones_like(scale))):
                distance = ((actual.double() - right.double()).abs() / size).max()
                worst = max(worst, float(distance) if distance.isfinite() else float("inf"))
        return worst


def said(effect: float) -> str:
    """Write an effect for the table."""
    return f"{effect:.1e}" if np.isfinite(effect) else "not finite"


# --- Faults


class Cases:
    """All faults of one run."""

    def __init__(self, run: RunFolder, other: RunFolder) -> None:
        """Take a run, and another training of the same backbone."""
        self._run, self._other = run, other
        self._right = load_deployable(run, run.record(), True)

    @cached_property
    def _probe(self) -> Probe:
        return Probe.of_run(self._run, self._right)

    @cached_property
    def _weights(self) -> Weights:
        manifest = read_manifest(self._run.bundle)
        return Weights(self._right, request_of(manifest), sample_of(manifest))

    def all(self) -> Iterator[tuple[str, str, str, Callable[[], AbstractContextManager[Tried]]]]:
        """Yield name, description and format of each fault, and what tries it.

        The broken files are removed when that block ends.
        """
        for network in networks.FAULTS:
            yield network.name, network.what, network.format, lambda fault=network: self._network(fault)
        for file in files.FAULTS:
            yield file.name, file.what, file.artifact, lambda fault=file: self._file(fault)
        yield "float16-overflow", "logits pass through values beyond the range of float16", "onnx-fp16", self._overflow
        yield "old-artifact", "the artifact of an earlier training beside new weights", "onnx", self._old_artifact

    @contextmanager
    def _network(self, fault: NetworkFault) -> Iterator[Tried]:
        broken = fault.apply(copy.deepcopy(self._right)).eval()
        effect = "fixed batch" if fault.fixed_batch else said(self._probe.effect(broken))
        with copied(self._run, fault.format) as place:
            if fault.format == "onnx" and fault.fixed_batch is None and self._weights.suffice(broken):
                self._weights.export(broken, place.bundle / read_manifest(place.bundle).artifacts[0].file)
            else:
                export_broken(broken, place, fault.format, fault.fixed_batch)
            yield self._judged(place, effect, seals=True)

    @contextmanager
    def _file(self, fault: FileFault) -> Iterator[Tried]:
        with copied(self._run, fault.artifact) as place:
            fault.apply(place.bundle)
            # What is sealed can be loaded and has another effect than other bytes; the rest is refused, or should be,
            # before anything runs.
            yield self._judged(place, self._effect_of_file(place) if fault.sealed else "file", seals=fault.sealed)

    @contextmanager
    def _overflow(self) -> Iterator[Tried]:
        """Convert a network to float16 that is right in float32 and overflows in float16."""
        broken = files.overflowing(copy.deepcopy(self._right)).eval()
        with copied(self._run, "onnx-fp16") as place:
            path = export_broken(broken, place, "onnx", None)
            model = onnx.load_model(path)
            name_nodes(model)
            # Everything that toolkit keeps in float32 in a right export, too; what overflows is not looked for.
            softmax = {node.name for node in model.graph.node if node.op_type == "Softmax"}
            onnx.save_model(to_float16(model, outside_layers(model.graph) | softmax), path)
            yield self._judged(place, "in float16 only", seals=True)

    @contextmanager
    def _old_artifact(self) -> Iterator[Tried]:
        with copied(self._run, "onnx") as place:
            artifact = read_manifest(place.bundle).artifacts[0].file
            shutil.copyfile(self._other.bundle / artifact, place.bundle / artifact)
            yield self._judged(place, self._effect_of_file(place), seals=True)

    def _effect_of_file(self, place: RunFolder) -> str:
        manifest = read_manifest(place.bundle)
        artifact = manifest.artifacts[0]
        return said(
            self._probe.effect_of_file(
                self._run.bundle / artifact.file, place.bundle / artifact.file, artifact.format, manifest.input
            )
        )

    def _judged(self, place: RunFolder, effect: str, seals: bool) -> Tried:
        if seals:
            seal(place.bundle)
        return Tried(judge(place), effect, self._changed(place.bundle))

    def _changed(self, bundle: Path) -> Path | None:
        """Return the ONNX file of a bundle if it is another than the run's."""
        found = [path for path in bundle.glob("model*.onnx") if (self._run.bundle / path.name).is_file()]
        return next((path for path in found if path.read_bytes() != (self._run.bundle / path.name).read_bytes()), None)


class Weights:
    """Exports networks that differ from the right one in weights alone.

    It is captured once, which is most of the time of an export.
    """

    def __init__(self, right: Deployable, request: ExportRequest, sample: torch.Tensor) -> None:
        """Capture the right network as ``torch.onnx.export`` does before it optimises the graph."""
        self._right, self._request, self._sample = right, request, sample
        shapes = ({0: torch.export.Dim("N")},)
        names: dict[str, Any] = {
            "input_names": [self._request.input_name],
            "output_names": list(OUTPUTS),
            "opset_version": self._request.opset,
        }
        program = torch.onnx.export(
            right, (self._sample,), dynamo=True, dynamic_shapes=shapes, optimize=False, verbose=False, **names
        )
        if program is None:
            raise BenchmarkError("torch.onnx.export returned no program.")
        self._captured = program.model_proto
        self._stored = {tensor.name for tensor in self._captured.graph.initializer}

    def suffice(self, broken: torch.nn.Module) -> bool:
        """Return whether a network has the layers of the right one, and weights the graph stores under their names."""
        if _layers_of(broken) != _layers_of(self._right):
            return False
        weights = broken.state_dict()
        return {
            name for name, tensor in self._right.state_dict().items() if not torch.equal(tensor, weights[name])
        } <= self._stored

    def export(self, broken: torch.nn.Module, path: Path) -> None:
        """Put the weights of a network into the captured graph, optimise it as the exporter does, and save it."""
        program = torch.onnx.ONNXProgram(onnx_ir.from_proto(self._captured), None)
        program.apply_weights({name: tensor for name, tensor in broken.state_dict().items() if name in self._stored})
        program.optimize()
        save_checked(program.model_proto, path, self._request, self._sample)


def _layers_of(network: torch.nn.Module) -> list[tuple[str, type, str]]:
    return [(name, type(module), module.extra_repr()) for name, module in network.named_modules()]


def request_of(manifest: Manifest) -> ExportRequest:
    """Return what the first artifact of a bundle was exported by."""
    return ExportRequest(manifest.input.name, OUTPUTS, metadata_of(manifest), manifest.artifacts[0].opset)


def sample_of(manifest: Manifest) -> torch.Tensor:
    """Return two black images."""
    return torch.from_numpy(np.zeros((2, *manifest.input.shape[1:]), np.uint8))


def export_broken(network: torch.nn.Module, run: RunFolder, format_name: str, fixed_batch: int | None) -> Path:
    """Put another network into the place of the artifact, exported as the right one was."""
    manifest = read_manifest(run.bundle)
    path, sample = run.bundle / manifest.artifacts[0].file, sample_of(manifest)
    if fixed_batch is not None:
        export_fixed(network, sample[:1].expand(fixed_batch, *sample.shape[1:]).contiguous(), path, manifest)
    else:
        get_format(format_name).export(network, sample, path, request_of(manifest), None)
    return path


def export_fixed(network: torch.nn.Module, sample: torch.Tensor, path: Path, manifest: Manifest) -> None:
    """Export as a script without ``dynamic_shapes`` does."""
    program = torch.onnx.export(
        network, (sample,), dynamo=True, input_names=[manifest.input.name], output_names=list(OUTPUTS), verbose=False
    )
    if program is None:
        raise BenchmarkError("torch.onnx.export returned no program.")
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata_of(manifest))
    onnx.save_model(model, path)
