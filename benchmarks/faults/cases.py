"""One fault at a time: planted into a copy of a run, looked at whether it is a fault at all, and judged."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.faults.copies import copied, seal
from benchmarks.faults.fault import FileFault, NetworkFault
from benchmarks.faults.judge import Verdict, judge, judge_alone
from benchmarks.faults.probe import Probe, written
from benchmarks.faults.reexport import Exporter
from toolkit.backbones.restore import load_deployable
from toolkit.bundle.folder import read_manifest
from toolkit.run_folder import FinishedRun, RunFolder


@dataclass(frozen=True)
class Tried:
    """One fault, planted and judged."""

    verdict: Verdict
    effect: str
    """How far the fault moves an output, of the largest logit of a row; or why that is not measured."""
    artifact: Path | None
    """The broken file while its folder exists; None where no ONNX file is other than it should be."""


class Cases:
    """A right run, for breaking it in one way after the other."""

    def __init__(self, run: RunFolder, other: RunFolder) -> None:
        """Take a run, and another training of the same backbone."""
        self._run, self._other = run, other
        self._right = load_deployable(FinishedRun.of(run))

    @cached_property
    def _probe(self) -> Probe:
        return Probe.of_run(self._run, self._right)

    @cached_property
    def _exporter(self) -> Exporter:
        return Exporter(self._right, self._run.bundle)

    @contextmanager
    def tried(self, fault: NetworkFault | FileFault) -> Iterator[Tried]:
        """Plant a fault and let it be judged; the broken files are removed when the block ends.

        Raises:
            NotApplicableError: the run has nothing that the fault could break, or it changes no output.
            ExportError: the broken network cannot be exported.
        """
        with copied(self._run, fault.format) as place:
            if isinstance(fault, NetworkFault):
                effect, seals = self._break_network(fault, place.bundle), True
            else:
                effect, seals = self._break_files(fault, place.bundle), fault.sealed
            if seals:
                seal(place.bundle)
            verdict = judge_alone(place.bundle) if fault.alone else judge(place)
            yield Tried(verdict, effect, self._changed(place.bundle))

    def _break_network(self, fault: NetworkFault, bundle: Path) -> str:
        """Return the effect."""
        broken = fault.apply(copy.deepcopy(self._right)).eval()
        effect = fault.unmeasured or written(self._probe.effect(broken))
        self._exporter.export(broken, fault, bundle)
        return effect

    def _break_files(self, fault: FileFault, bundle: Path) -> str:
        """Return the effect.

        What is sealed can be loaded and has another effect than other bytes; the rest is refused, or should be, before
        anything runs.
        """
        fault.apply(bundle, self._other.bundle)
        if not fault.sealed:
            return "file"
        manifest = read_manifest(bundle)
        artifact = manifest.artifacts[0]
        right = self._run.bundle / artifact.file
        return written(self._probe.effect_of_file(right, bundle / artifact.file, artifact.format, manifest.input))

    def _changed(self, bundle: Path) -> Path | None:
        """Return the ONNX file of a bundle if it is another than the run's."""
        for path in bundle.glob("model*.onnx"):
            right = self._run.bundle / path.name
            if right.is_file() and path.read_bytes() != right.read_bytes():
                return path
        return None
