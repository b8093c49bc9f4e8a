"""``toolkit doctor``."""

from __future__ import annotations

import base64
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import typer

from toolkit.cli.hanging import echo_hanging
from toolkit.dependencies import import_optional, is_installed, why_not
from toolkit.distribution import NO_ONNXRUNTIME, install_hint
from toolkit.errors import MissingDependencyError, first_line

IDENTITY_MODEL = base64.b64decode(
    "CAc6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0="
)
"""y = x on one float, opset 13: the smallest model that makes a provider prove that it can be loaded."""

TRAINING_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxscript",
    "sklearn",
    "matplotlib",
    "safetensors",
    "tomli_w",
)


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis."""

    subject: str
    usable: bool | None
    """None for a plain fact."""
    detail: str


def command() -> None:
    """Say what this machine can run, and why not.

    Exit code 0 if a bundle's ONNX artifact can be run here, 1 if not.
    """
    serves = False
    for finding in examine():
        mark = {True: "yes", False: "no", None: ""}[finding.usable]
        echo_hanging(f"{finding.subject:22} {mark:4} ", finding.detail)
        serves = serves or (finding.subject == "onnxruntime on CPU" and finding.usable is True)
    raise typer.Exit(0 if serves else 1)


def examine() -> Iterator[Finding]:
    """Try everything that matters and yield what was found; takes seconds, because every package is really imported."""
    yield from _machine()
    yield from _onnxruntime()
    yield from _torch()
    yield from _training()


def _machine() -> Iterator[Finding]:
    import toolkit
    from toolkit.provenance import hardware

    machine = hardware()
    yield Finding(
        "toolkit", None, f"{toolkit.__version__}, Python {platform.python_version()}, {machine.operating_system}"
    )
    yield Finding(
        "processor",
        None,
        f"{machine.processor}, {machine.cores} cores for this process (the default number of threads)",
    )
    yield Finding("memory", None, f"{machine.memory_bytes / 2**30:.1f} GiB" if machine.memory_bytes else "unknown")
    yield Finding("GPU", machine.gpu is not None, machine.gpu or "nvidia-smi is not there or names no device")


def _onnxruntime() -> Iterator[Finding]:
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name)]
    if len(installed) == 2:
        yield Finding(
            "onnxruntime",
            False,
            "both onnxruntime and onnxruntime-gpu are installed and overwrite each other: uninstall both, then "
            "install one",
        )
    try:
        onnxruntime = import_optional("onnxruntime", NO_ONNXRUNTIME)
    except MissingDependencyError as error:
        yield Finding("onnxruntime on CPU", False, str(error).removesuffix("."))
        return
    package = f"{installed[0]} {onnxruntime.__version__}" if installed else f"onnxruntime {onnxruntime.__version__}"
    yield _provider(onnxruntime, "CPU", "CPUExecutionProvider", package)
    yield _provider(onnxruntime, "CUDA", "CUDAExecutionProvider", package)


def _provider(onnxruntime: Any, title: str, provider: str, package: str) -> Finding:
    subject = f"onnxruntime on {title}"
    if provider not in onnxruntime.get_available_providers():
        return Finding(subject, False, f"{package} is built without it: {install_hint('gpu')}")
    from toolkit.formats.onnx import preload_cuda

    # A provider whose libraries are missing prints to stderr by itself; the sentence below says it better.
    onnxruntime.set_default_logger_severity(4)
    try:
        if title == "CUDA":
            preload_cuda(onnxruntime)
        session = onnxruntime.InferenceSession(IDENTITY_MODEL, providers=[provider])
    except Exception as error:  # onnxruntime's exceptions have no common base below Exception
        return Finding(subject, False, f"{package}: {first_line(error)}")
    finally:
        onnxruntime.set_default_logger_severity(2)
    if session.get_providers()[0] != provider:
        return Finding(
            subject, False, f"{package} has it, but its libraries (CUDA, cuDNN, driver) cannot be loaded here"
        )
    return Finding(subject, True, package)


def _torch() -> Iterator[Finding]:
    missing = f"it is not installed: {install_hint('train')} to fine-tune and export"
    try:
        torch = import_optional("torch", missing)
    except MissingDependencyError as error:
        yield Finding("torch", False, f"{str(error).removesuffix('.')}; prediction does not need it")
        return
    yield Finding("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        yield Finding("torch on CUDA", True, f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}")
    else:
        built = (
            f"built for CUDA {torch.version.cuda}, but no device or driver is found"
            if torch.version.cuda
            else "this build of torch has no CUDA"
        )
        yield Finding("torch on CUDA", False, built)


def _training() -> Iterator[Finding]:
    missing = [name for name in TRAINING_PACKAGES if not is_installed(name)]
    broken = [reason for name in TRAINING_PACKAGES if name not in missing and (reason := why_not(name, "")) is not None]
    reasons = [*([f"missing: {', '.join(missing)}; {install_hint('train')}"] if missing else []), *broken]
    yield Finding("fine-tuning and export", not reasons, "; ".join(reasons) or "every package is there")
    if reasons:
        return
    from toolkit.formats.registry import formats

    for name, known in formats().items():
        reason = known.unavailable()
        yield Finding(f"format {name}", reason is None, reason or known.precision)
    from toolkit.data.base import files_root
    from toolkit.data.registry import sources
    from toolkit.recipe import DataRecipe

    recipe = DataRecipe.model_validate({})
    for source in sources().values():
        if source.downloads:
            on_disk = source.unavailable(recipe, network=False) is None
            yield Finding(source.title, on_disk, str(files_root(recipe)))


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
