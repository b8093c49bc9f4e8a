from __future__ import annotations

import pytest

from benchmarks.depthwise.judgement import claims, table
from benchmarks.depthwise.measuring import Measured
from toolkit.run_folder import DepthwiseShape


def made(products: float, error: float = 0.0, kind: str = "float32") -> Measured:
    """Return a small shape on which PyTorch takes 10 ms."""
    seconds = {"pytorch": [0.01], "products": [products]}
    shape = DepthwiseShape(channels=8, size=(5, 4), kernel=(5, 5), stride=(1, 1), padding=(2, 2), dilation=(1, 1))
    return Measured(shape, kind, {"pytorch": error, "products": 0.0}, seconds)


@pytest.mark.parametrize(
    ("found", "met"),
    [
        ([made(0.002)], [True, True, True, True]),
        ([made(0.002), made(0.02)], [True, True, False, True]),
        ([made(0.002, error=1e-4)], [False, True, True, True]),
        ([made(0.002, error=0.1, kind="bfloat16")], [True, False, True, True]),
        ([made(0.02, kind="bfloat16")], [True, True, True, False]),
    ],
)
def test_each_claim_can_be_missed(found: list[Measured], met: list[bool]) -> None:
    assert [claim.met for claim in claims(found, "AVX2")] == met


def test_the_table_names_the_fastest_and_what_is_taken() -> None:
    ((*_, fastest, taken),) = table([made(0.002)], "AVX2").rows
    assert (fastest, taken) == ("products", "products")
    ((*_, fastest, taken),) = table([made(0.02)], "DEFAULT").rows
    assert (fastest, taken) == ("pytorch", "pytorch")
