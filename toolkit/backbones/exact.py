"""What the network says in another precision: in float64, which all else is measured by, and in lower ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from toolkit.backbones.deployable import Deployable
from toolkit.compare.rounding import relative_rms
from toolkit.formats.torch_session import torch_threads

BATCH = 8
DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""By the name that a precision has in a manifest."""


def outputs_in(
    precision: str, deployable: Deployable, encoded: npt.NDArray[np.generic], threads: int
) -> dict[str, npt.NDArray[np.float32]] | None:
    """Run a copy of the network in a precision, on the CPU.

    Args:
        precision: one of ``DTYPES``.
        deployable: the network, in float32 on the CPU.
        encoded: what the input contract says, N first.
        threads: CPU threads.

    Returns:
        ``logits`` and ``probabilities``, rounded to float32 ``[N, C]`` as ``Deployable`` gives them; None where PyTorch
        cannot compute the network in this precision, or not to finite values.
    """
    dtype = DTYPES[precision]
    network = copy.deepcopy(deployable).to(dtype)
    parts: dict[str, list[npt.NDArray[np.float32]]] = {"logits": [], "probabilities": []}
    with torch_threads(threads), torch.inference_mode():
        for start in range(0, len(encoded), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(encoded[start : start + BATCH]))
            try:
                outputs = network(batch.to(dtype) if batch.is_floating_point() else batch)
            except (RuntimeError, TypeError):  # "not implemented for 'Half'", or a network that mixes types on its own
                return None
            for values, output in zip(parts.values(), outputs, strict=True):
                values.append(output.numpy())
    outputs = {name: np.concatenate(values) for name, values in parts.items()}
    return outputs if all(np.isfinite(values).all() for values in outputs.values()) else None


def measure_rounding(
    deployable: Deployable,
    encoded: npt.NDArray[np.generic],
    exact: npt.NDArray[np.floating],
    precisions: Iterable[str],
    threads: int,
) -> dict[str, float]:
    """Return by precision how far PyTorch is from float64 (``compare.rounding.relative_rms``).

    Args:
        deployable: see ``outputs_in``.
        encoded: see ``outputs_in``.
        exact: logits in float64, ``[N, C]``.
        precisions: those of artifacts; what is no floating point, what PyTorch cannot compute, and what is infinitely
            far from logits that are all zero is left out.
        threads: CPU threads.
    """
    found = {}
    for precision in sorted({*precisions} & DTYPES.keys()):
        outputs = outputs_in(precision, deployable, encoded, threads)
        if outputs is not None and math.isfinite(rounding := relative_rms(exact, outputs["logits"])):
            found[precision] = rounding
    return found
