"""Verdicts on accuracy and time."""

from benchmarks import full_cifar10


def test_full_cifar10_verdicts():
    claims = full_cifar10.claims
    assert [claim.met for claim in claims(0.925, 10_000, 2700, 92.5, 45)] == [True, True]
    assert [claim.met for claim in claims(0.9249, 10_000, 2701, 92.5, 45)] == [False, False]
