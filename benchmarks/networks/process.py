"""The process of one model, which may take only so much time and memory."""

from __future__ import annotations

import json
import multiprocessing
import resource
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.networks.catalogue import families, smallest
from benchmarks.networks.examination import examine
from benchmarks.networks.finding import Finding


@dataclass(frozen=True)
class Limits:
    """What the process of one model may take."""

    seconds: float
    bytes: int


def in_its_own_process(family: str, name: str, formats: Sequence[str], limits: Limits) -> Finding:
    """Examine one model where it can neither hang nor take all memory."""
    context = multiprocessing.get_context("fork")  # PyTorch and timm are imported once
    with tempfile.NamedTemporaryFile(prefix="families-", suffix=".json") as file:
        process = context.Process(target=_examine_into, args=(Path(file.name), family, name, formats, limits))
        process.start()
        process.join(limits.seconds)
        if process.is_alive():
            process.kill()
            process.join()
            return Finding(family, f"timm:{name}", failed=f"not done after {limits.seconds:g} s")
        content = file.read()
    if not content:
        return Finding(family, f"timm:{name}", failed=f"its process ended with {process.exitcode}")
    return Finding(**json.loads(content))


def _examine_into(file: Path, family: str, name: str, formats: Sequence[str], limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limits.bytes, limits.bytes))
    torch.set_num_threads(1)
    file.write_text(json.dumps(asdict(examine(family, name or smallest(families()[family]), formats))))
