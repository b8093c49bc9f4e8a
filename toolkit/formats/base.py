"""What a format is: one file that exports a ``Deployable`` and opens what it exported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

from toolkit.bundle.content import Content
from toolkit.bundle.manifest import Portability
from toolkit.results import QuantizationSearch

if TYPE_CHECKING:
    import torch

ANY_SHAPE = ("...",)
"""The shape of a value of which not even the number of axes is known."""
Typed = tuple[str, tuple[int | str, ...]]
"""Dtype and shape of a value; a dynamic axis is a string."""
NarrowType = Literal["float16", "int8"]
"""What values inside a file are stored as where float32 would hold more."""


@dataclass(frozen=True)
class Calibration:
    """Real images for formats that choose by them: how to quantise, what must stay in float32.

    There is no way from here to the test split. Both streams start anew with every call and hold a bounded number of
    images in memory.
    """

    training_images: int
    """How many images one pass over ``training`` yields, at least 1."""
    validation_images: int
    """How many images one pass over ``validation`` yields, at least 1."""
    training: Callable[[int], Iterator[npt.NDArray[np.generic]]]
    """Batch size to batches of training images, encoded as the graph takes them."""
    validation: Callable[[int], Iterator[tuple[npt.NDArray[np.generic], npt.NDArray[np.int64]]]]
    """Batch size to batches of encoded validation images with the class of each, int64 ``[n]``."""
    max_drop: float = 0.5
    """How many points of validation accuracy a quantised artifact may lose, e.g. 0.5 for 97.0% to 96.5%."""


@dataclass(frozen=True)
class Exported:
    """An artifact that was written, and what a reader of the manifest must know of how."""

    further_files: tuple[Path, ...] = ()
    """Files beside the artifact that it cannot be opened without."""
    portability: Portability = "any"
    """Where the artifact can be used."""
    kept_float32: tuple[str, ...] = ()
    """Nodes of the graph that compute in float32 though the artifact's precision is lower."""
    quantization: QuantizationSearch | None = None
    """What was tried to find this quantised artifact."""


@dataclass(frozen=True)
class NotExported:
    """No file was written because none would be good enough: a result, not an error."""

    reason: str
    """One sentence."""
    quantization: QuantizationSearch | None = None
    """What was tried."""


@dataclass(frozen=True)
class Facts:
    """What an exported file really is, read back from the file."""

    producer: str
    """The engine or exporter that wrote it, with its version."""
    opset: int | None = None
    ir_version: int | None = None
    inputs: Mapping[str, Typed] = field(default_factory=dict)
    """Name to dtype and shape. Empty where the format does not record it."""
    outputs: Mapping[str, Typed] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportRequest:
    """What is asked of an exporter beside the network itself."""

    input_name: str
    output_names: tuple[str, ...]
    metadata: Mapping[str, str]
    """Labels, contract and origin, to be stored inside the file."""
    opset: int | None = None
    """ONNX opset; the exporter's recommended one where None."""
    ir_version: int | None = None
    """IR version of an ONNX file; the exporter's own where None."""


@dataclass(frozen=True)
class Interface:
    """What an opened graph says of its input and outputs."""

    inputs: Mapping[str, Typed]
    outputs: Mapping[str, Typed]


class Session(Protocol):
    """An opened artifact.

    Several threads may call ``run`` at once: each gets what it would get alone, in memory of its own.
    It may have attributes and a method more, which are looked for:

    - ``interface`` (``Interface``) is held against the manifest.
    - ``provider`` (text) says what really computes, in the engine's own words; ``tf32`` (truth value or None) whether
      float32 products may be computed in TF32. Both go into the records of the benchmark.
    - ``on_device(inputs)`` copies a batch to the GPU once and returns a function without arguments: one call with the
      input there already and the outputs left there. It returns when the GPU has finished, with the seconds between
      two events around the call, or None where the engine has no events. On CUDA the benchmark times that.
    """

    device: str
    """Where it really runs: ``cpu``, ``cuda`` or ``cuda:N``, as the engine says, not as was asked."""
    engine: str
    """The engine with its version."""
    threads: int

    def run(self, inputs: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.float32]]:
        """Run one batch.

        Args:
            inputs: what the bundle's input contract says, N first (see ``InputContract.encode``).

        Returns:
            ``logits`` and ``probabilities``, float32 ``[N, C]``, on the host.
        """


class Format(Protocol):
    """An export format.

    ``toolkit.formats.registry`` finds them; others add theirs under the entry point ``toolkit.formats``. A class that
    inherits from this one takes over the values below; for one that does not, the registry fills them in.
    """

    name: str
    precision: str
    suffix: str
    """How the name of the file ends that ``export`` is asked to write."""
    family: str
    """What the file is: all formats of one family are read by the same parser. The format's own name by default."""
    engine: str | None = None
    """The package that runs the file, e.g. ``onnxruntime``; None where the format does not say."""
    calibrates: bool = False
    """Whether ``export`` needs a ``Calibration``; decoding images for one that does not would be wasted."""
    carries_code: bool = True
    """Whether a file can hold code that runs when it is opened or run. Such a file is opened only in a bundle that
    somebody vouches for. False is a promise, so nothing makes it by default."""
    usage: str | None = None
    """What a program that calls the engine itself must know beyond the contract, as sentences in Markdown for the
    bundle's README; None where there is nothing."""
    bisectable: bool = False
    """Whether the file is an ONNX graph, whose tensors bisection reads one by one."""
    spins: bool = False
    """Whether ``open`` takes ``spinning``, a truth value: whether idle threads of the engine wait in a loop."""
    narrow_type: NarrowType | None = None
    """For an ONNX file that stores values in a narrower type than float32, and whose values inside must therefore be
    held against the range of that type; None where there is nothing to look at."""

    @staticmethod
    def endless(content: Content) -> str | None:
        """Say what in a file of data can keep its engine busy for ever, e.g. ``a Loop``; None if nothing can.

        Such a file is opened like one that carries code.

        Raises:
            ValueError: it is no file of this format.
        """
        del content
        return None

    def unavailable(self) -> str | None:
        """Say why this format cannot be exported or opened here, as one sentence with the remedy; None if it can."""

    def export(
        self,
        deployable: torch.nn.Module,
        sample: torch.Tensor,
        path: Path,
        request: ExportRequest,
        calibration: Calibration | None,
    ) -> Exported | NotExported:
        """Write the network to ``path`` and check that the file is what ``request`` asks for.

        Args:
            deployable: in inference mode, on the CPU; takes one tensor, returns ``(logits, probabilities)``.
            sample: an input of batch size 2 or more, of the contract's dtype and shape.
            path: file to write.
            request: names, metadata, opset and IR version.
            calibration: training and validation images; None for formats that do not calibrate.

        Returns:
            What was written, or why nothing was. A format that has nothing to choose always writes.

        Raises:
            ExportError: the exporter failed, or quietly made something else.
        """

    def facts(self, path: Path) -> Facts:
        """Read back what the file is."""

    def open(self, content: Content, device: str, threads: int) -> Session:
        """Open the artifact.

        Args:
            content: the bytes of its files, which were checked. What lies at the path that they were read from may have
                changed since, so nothing is read from there; an engine that needs a path gets
                ``content.as_files()``.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            threads: CPU threads for one call.

        Raises:
            DeviceError: the device cannot be used here.
            MissingDependencyError: the engine is not installed.
            BundleError: the engine refuses the file.
        """
