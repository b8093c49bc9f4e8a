"""What float64 says, and what PyTorch loses by rounding in lower precisions.

The measure that small errors are judged by.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from toolkit.backbones.deployable import Deployable
from toolkit.bundle.manifest import InputContract
from toolkit.compare.rounding import relative_rms
from toolkit.formats.torch_session import torch_threads
from toolkit.verify.expected import Exact, Expected
from toolkit.verify.inputs import Inputs

IMAGES = 32
"""Test images that are computed in float64, which is several times slower; all edge inputs join them."""
BATCH = 8
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def measure_exact(
    deployable: Deployable,
    inputs: Inputs,
    reference: Expected,
    contract: InputContract,
    precisions: Iterable[str],
    threads: int,
) -> Exact | None:
    """Compute some inputs in float64, and how far PyTorch in each precision is from that.

    Args:
        deployable: the network, in float32 on the CPU.
        inputs: what is verified.
        reference: PyTorch in float32 on these inputs.
        contract: how pixels are fed.
        precisions: those of the artifacts.
        threads: CPU threads.

    Returns:
        None where the network cannot be computed in float64, or not to finite values.
    """
    rows = (*range(min(IMAGES, inputs.test_images)), *range(inputs.test_images, len(inputs.names)))
    encoded = contract.encode(inputs.images[list(rows)])
    exact = _logits(deployable, encoded, torch.float64, threads)
    if exact is None or not np.isfinite(exact).all():
        return None
    rounding = {"float32": relative_rms(exact, reference.outputs["logits"][list(rows)])}
    for precision in {*precisions} & DTYPES.keys():
        lower = _logits(deployable, encoded, DTYPES[precision], threads)
        if lower is not None and np.isfinite(lower).all():
            rounding[precision] = relative_rms(exact, lower)
    return Exact(rows=rows, logits=exact, rounding=rounding)


def _logits(
    deployable: Deployable, encoded: npt.NDArray[np.generic], dtype: torch.dtype, threads: int
) -> npt.NDArray[np.float64] | None:
    """Return the logits, which ``Deployable`` gives as float32; None where PyTorch has no kernel for this type."""
    network = copy.deepcopy(deployable).to(dtype)
    parts = []
    with torch_threads(threads), torch.inference_mode():
        for start in range(0, len(encoded), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(encoded[start : start + BATCH]))
            try:
                logits, _ = network(batch.to(dtype) if batch.is_floating_point() else batch)
            except (RuntimeError, TypeError):  # "not implemented for 'Half'", or a network that mixes types on its own
                return None
            parts.append(logits.double().numpy())
    return np.concatenate(parts)
