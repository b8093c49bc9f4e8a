"""Other tools that compare an ONNX file with its network, each with its own inputs, tolerances and rules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from toolkit.backbones.deployable import Deployable
from toolkit.backbones.restore import load_deployable
from toolkit.bundle.folder import read_manifest
from toolkit.errors import first_line
from toolkit.run_folder import FinishedRun, RunFolder

INPUT = "images"
OUTPUTS = ("logits", "probabilities")
TORCH_ABSOLUTE, TORCH_RELATIVE = 5e-3, 1e-1
"""Beyond these ``torch.onnx.export(verify=True)`` warns (torch/onnx/_internal/exporter/_core.py, step 6)."""


@dataclass(frozen=True)
class Opinion:
    """What a tool said of a file."""

    refused: bool
    why: str


Judge = Callable[[Path], Opinion]


@dataclass(frozen=True)
class Right:
    """A right network, and where its own ONNX file is."""

    network: Deployable
    onnx: Path
    shape: tuple[int, int, int]
    """Height, width, channels."""

    @classmethod
    def of_run(cls, run: RunFolder) -> Right:
        """Read a run that was exported to ONNX."""
        manifest = read_manifest(run.bundle)
        file = next(artifact.file for artifact in manifest.artifacts if artifact.format == "onnx")
        height, width, channels = (int(axis) for axis in manifest.input.shape[1:])
        return cls(load_deployable(FinishedRun.of(run)).eval(), run.bundle / file, (height, width, channels))

    def sample(self) -> torch.Tensor:
        """Return two images of noise, the example inputs of an export."""
        return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, *self.shape), dtype=np.uint8))

    def outputs(
        self, images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    ) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """Return what is right."""
        with torch.inference_mode():
            return dict(
                zip(OUTPUTS, (values.numpy() for values in self.network(torch.from_numpy(images))), strict=True)
            )


class Peer(Protocol):
    """A tool."""

    name: str
    inputs: str
    """What it compares on."""
    rule: str
    """What it refuses."""

    def prepare(self, right: Right, scratch: Path) -> Judge:
        """Return what judges files that should be a right network."""


class TorchVerify:
    """The steps of ``torch.onnx.export(verify=True)``, for a file instead of the program that was just made."""

    name = "torch.onnx.export(verify=True)"
    inputs = "the example inputs of the export: 2 images of noise"
    rule = (
        f"a warning: checker or onnxruntime fail, absolute difference of {TORCH_ABSOLUTE:g} or relative difference "
        f"of {TORCH_RELATIVE:g} or more"
    )

    def prepare(self, right: Right, scratch: Path) -> Judge:
        """Export the right network for PyTorch's side of the comparison."""
        program = torch.export.export(right.network, (right.sample(),), dynamic_shapes=({0: torch.export.Dim("N")},))
        return lambda path: self._judge(program, path)

    def _judge(self, program: torch.export.ExportedProgram, path: Path) -> Opinion:
        import onnx_ir
        from torch.onnx._internal._lazy_import import onnxscript_apis  # type: ignore[attr-defined]  # PyTorch's own
        from torch.onnx._internal.exporter._onnx_program import ONNXProgram
        from torch.onnx._internal.exporter._verification import verify_onnx_program

        try:
            model = onnx_ir.load(path)
        except Exception as error:  # whatever a parser raises, the file is refused
            return Opinion(True, f"cannot be loaded: {first_line(error)}")
        try:
            onnxscript_apis.check_model(model)
        except Exception as error:  # the exporter takes any exception here for a failure, too
            return Opinion(True, f"checker: {first_line(error)}")
        exported = ONNXProgram(model, program)
        try:
            differences = verify_onnx_program(exported)
        except Exception as error:  # as above
            return Opinion(True, f"onnxruntime: {first_line(error)}")
        finally:
            exported.release()
        figures = ", ".join(
            f"{info.name} {info.max_abs_diff:.1e} absolute, {info.max_rel_diff:.1e} relative" for info in differences
        )
        return Opinion(
            any(info.max_abs_diff >= TORCH_ABSOLUTE or info.max_rel_diff >= TORCH_RELATIVE for info in differences),
            figures,
        )


class Polygraphy:
    """``polygraphy run FILE --onnxrt`` against outputs that were saved from PyTorch, at its default tolerances."""

    name = "polygraphy run"
    inputs = "what it generates by default: one image of the values 0 and 1"
    rule = "a failed comparison or run: more than 1e-5 absolute plus 1e-5 relative, any element"

    def prepare(self, right: Right, scratch: Path) -> Judge:
        """Let it generate inputs, and save what PyTorch says of them."""
        from polygraphy.comparator import RunResults
        from polygraphy.json import load_json

        inputs, outputs = scratch / "polygraphy-inputs.json", scratch / "polygraphy-outputs.json"
        saving = self._run(right.onnx, "--save-inputs", str(inputs))
        if saving.returncode != 0:
            raise RuntimeError(f"polygraphy cannot run a right file: {saving.stdout[-2000:]}{saving.stderr[-2000:]}")
        results = RunResults()
        results.add([right.outputs(feed[INPUT]) for feed in load_json(str(inputs))], runner_name="PyTorch")
        results.save(str(outputs))
        return lambda path: self._judge(path, inputs, outputs)

    def _judge(self, path: Path, inputs: Path, outputs: Path) -> Opinion:
        ended = self._run(path, "--load-inputs", str(inputs), "--load-outputs", str(outputs))
        lines = [line.strip() for line in (ended.stdout + ended.stderr).splitlines()]
        complaint = next(
            (line for line in lines if line.startswith("[E]") and "RUNNING" not in line and "| Command:" not in line),
            "",
        )
        return Opinion(ended.returncode != 0, complaint or f"exit code {ended.returncode}")

    def _run(self, path: Path, *options: str) -> subprocess.CompletedProcess[str]:
        program = "import sys; from polygraphy.tools import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", program, "run", str(path), "--onnxrt", *options],
            capture_output=True,
            text=True,
            check=False,
        )


class Optimum:
    """``optimum.exporters.onnx.validate_model_outputs`` with the smallest configuration that describes the network."""

    name = "optimum validate_model_outputs"
    inputs = "its dummy inputs: 2 images of noise"
    rule = (
        "an exception: numpy.allclose with 1e-5 absolute (its default) and numpy's 1e-5 relative fails, or another "
        "shape or output"
    )

    def prepare(self, right: Right, scratch: Path) -> Judge:
        """Make the configuration; the batch axis is called what the right file calls it."""
        import onnx

        graph = onnx.load_model(right.onnx).graph
        axes = {
            value.name: {0: value.type.tensor_type.shape.dim[0].dim_param} for value in (*graph.input, *graph.output)
        }
        config, network = _optimum_config(axes, right.shape), _Named(right.network)
        own = self._judge(config, network, right.onnx)
        if own.refused and not own.why.startswith("AtolError"):
            raise RuntimeError(f"optimum cannot judge a right file: {own.why}")
        return lambda path: self._judge(config, network, path)

    def _judge(self, config: Any, network: torch.nn.Module, path: Path) -> Opinion:
        from optimum.exporters.onnx import validate_model_outputs

        try:
            validate_model_outputs(config, network, path, list(OUTPUTS), use_subprocess=False)
        except Exception as error:  # it tells a difference, and a file that cannot be opened, by an exception
            return Opinion(True, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return Opinion(False, "no exception")


class _Named(torch.nn.Module):
    """A network whose input has the name that the ONNX file gives it."""

    def __init__(self, network: Deployable) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and probabilities."""
        outputs: tuple[torch.Tensor, torch.Tensor] = self.network(images)
        return outputs


def _optimum_config(axes: Mapping[str, Mapping[int, str]], shape: tuple[int, int, int]) -> Any:
    from optimum.exporters.onnx.base import OnnxConfig
    from optimum.utils import DummyInputGenerator, NormalizedConfig
    from transformers import PretrainedConfig

    class Images(DummyInputGenerator):  # type: ignore[misc]  # a package without type information
        SUPPORTED_INPUT_NAMES = (INPUT,)

        def __init__(self, task: str, normalized_config: object, **_: object) -> None:
            del task, normalized_config

        def generate(
            self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
        ) -> torch.Tensor:
            del input_name, int_dtype, float_dtype
            noise: torch.Tensor = self.random_int_tensor(
                [2, *shape], max_value=256, framework=framework, dtype="int64"
            ).to(torch.uint8)
            return noise

    class Config(OnnxConfig):  # type: ignore[misc]  # a package without type information
        NORMALIZED_CONFIG_CLASS = NormalizedConfig
        DUMMY_INPUT_GENERATOR_CLASSES = (Images,)

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return {INPUT: dict(axes[INPUT])}

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return {name: dict(axes[name]) for name in OUTPUTS}

    return Config(PretrainedConfig(), task="image-classification")


PEERS: tuple[Peer, ...] = (TorchVerify(), Polygraphy(), Optimum())
