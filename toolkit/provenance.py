"""Versions, hardware and commit: collected once per result, so that a figure can be traced to what made it."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import toolkit
from toolkit.cgroups import cpu_quota
from toolkit.results import Hardware, Provenance

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "numpy",
    "pillow",
    "scikit-learn",
)


def collect() -> Provenance:
    """Return the provenance of whatever is being made now. Takes some milliseconds and imports nothing heavy."""
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        toolkit=toolkit.__version__,
        python=platform.python_version(),
        packages=package_versions(),
        hardware=hardware(),
        commit=git_commit(Path.cwd()),
    )


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the version of each package, by its name on PyPI, that is installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> Hardware:
    """Describe this machine. Where the system does not tell, the field says so or is 0."""
    return Hardware(
        processor=_processor(),
        cores=available_cores(),
        memory_bytes=_memory_bytes(),
        gpu=_gpu(),
        operating_system=f"{platform.system()} {platform.release()}",
    )


def computing_part(device: str, machine: Hardware | None = None) -> str:
    """Return the name of what computes on a device: the processor, or the GPU.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        machine: where; this one by default.
    """
    if device != "cpu":
        return (_gpu() if machine is None else machine.gpu) or "GPU"
    return _processor() if machine is None else machine.processor


def available_cores() -> int:
    """Return how many cores this process may use, which in a container is fewer than the machine has.

    Those that it may be scheduled on, and no more than the quota of its control group. A quota of 1.5 cores counts as
    2, as for the JVM and joblib: with 1 the half would stay unused.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else min(cores, max(1, math.ceil(quota)))


def default_threads() -> int:
    """Return how many threads compute where nobody says: one per available core, or fewer if OMP_NUM_THREADS is fewer.

    Ray, torchrun and many images of containers set that variable to what is meant for one process.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    cores = available_cores()
    fewer = [threads for threads in range(1, cores) if str(threads) == wanted.lstrip("0")]
    return fewer[0] if fewer else cores


def peak_memory_bytes() -> int | None:
    """Return the peak resident memory of this process; None where the system does not tell (Windows)."""
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage is wrong here on Linux: ru_maxrss survives exec, so a worker would start with the peak of the
        # process that started it.
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def git_commit(folder: Path) -> str | None:
    """Return the commit checked out in ``folder``, with ``-dirty`` if tracked files differ.

    None outside a checkout or without git.
    """
    git = shutil.which("git")
    if git is None:
        return None
    try:
        commit = subprocess.run(
            [git, "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        status = subprocess.run(
            [git, "-C", str(folder), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
    except (subprocess.SubprocessError, OSError):
        return None
    return f"{commit}-dirty" if status.strip() else commit


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _gpu() -> str | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        answer = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (subprocess.SubprocessError, OSError):
        return None
    return "; ".join(line.strip() for line in answer.splitlines() if line.strip()) or None
