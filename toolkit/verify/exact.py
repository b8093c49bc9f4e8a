"""What float64 says, and what PyTorch loses by rounding in lower precisions.

The measure that small errors are judged by.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from toolkit.backbones.deployable import Deployable
from toolkit.backbones.exact import measure_rounding, outputs_in
from toolkit.bundle.manifest import InputContract
from toolkit.compare.rounding import relative_rms
from toolkit.verify.expected import Exact, Expected
from toolkit.verify.inputs import Inputs

IMAGES = 32
"""Test images that are computed in float64, which is several times slower; all edge inputs join them."""


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
    exact = outputs_in("float64", deployable, encoded, threads)
    if exact is None:
        return None
    logits = exact["logits"].astype(np.float64)
    rounding = {"float32": relative_rms(logits, reference.outputs["logits"][list(rows)])}
    rounding |= measure_rounding(deployable, encoded, logits, {*precisions} - {"float32"}, threads)
    return Exact(rows=rows, logits=logits, rounding=rounding)
