"""Where training runs, and making it repeatable."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator

import torch

from toolkit.devices import AUTO, kind_of, require_cuda_device
from toolkit.errors import DeviceError
from toolkit.formats.torch_session import full_float32


def choose_device(wanted: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        DeviceError: there is no such device, or PyTorch cannot use it.
    """
    if wanted == AUTO:
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if kind_of(wanted) == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError(
                f"--device {wanted} was asked for and PyTorch sees no CUDA device: use --device cpu, or see 'toolkit "
                "doctor'."
            )
        require_cuda_device(wanted, torch.cuda.device_count(), "PyTorch")
    return torch.device(wanted)


@contextlib.contextmanager
def repeatable(seed: int, threads: int) -> Iterator[None]:
    """Seed PyTorch, fix the thread count and choose deterministic kernels inside the block; restore all of it after.

    The thread count matters: sums over a batch are split between threads, so another count rounds differently.
    """
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    warn_only_before = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark_before = torch.backends.cudnn.benchmark
    fill_before = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]  # torch adds it at import
    on_cuda = _repeatable_on_cuda() if torch.cuda.is_available() else contextlib.nullcontext()
    with on_cuda, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        # On CUDA some backward kernels have no deterministic version; they are allowed there (docs/results/index.md).
        torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
        torch.backends.cudnn.benchmark = False
        # Filling every new tensor, against code that reads what it never wrote, takes 5% of a step; our own arithmetic
        # has no such code.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch adds it at import
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(deterministic_before, warn_only=warn_only_before)
            torch.backends.cudnn.benchmark = benchmark_before
            torch.utils.deterministic.fill_uninitialized_memory = fill_before  # type: ignore[attr-defined]  # torch adds it at import


WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Without it cuBLAS may choose another order of summation from run to run (its manual, "Results reproducibility")."""


@contextlib.contextmanager
def _repeatable_on_cuda() -> Iterator[None]:
    """Have float32 computed in float32 and cuBLAS repeat itself, and leave out what PyTorch says at every step."""
    workspace_before = os.environ.get(WORKSPACE)
    os.environ.setdefault(WORKSPACE, ":4096:8")
    try:
        with full_float32(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
            # Where float16 overflows in the first steps, as it does until its scale has settled, nothing is stepped.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            yield
    finally:
        if workspace_before is None:
            os.environ.pop(WORKSPACE, None)
