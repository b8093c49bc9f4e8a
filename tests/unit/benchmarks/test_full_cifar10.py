"""Verdicts on accuracy and time."""

from argparse import Namespace
from pathlib import Path

from benchmarks import full_cifar10
from benchmarks.harness.child import Run
from benchmarks.harness.finetuning import Finetuned


def test_full_cifar10_verdicts():
    claims = full_cifar10.claims
    assert [claim.met for claim in claims(0.925, 10_000, 2700, 92.5, 45)] == [True, True]
    assert [claim.met for claim in claims(0.9249, 10_000, 2701, 92.5, 45)] == [False, False]


def test_the_report_says_how_many_images_were_set_aside():
    options = Namespace(name="full_cifar10", data=Path("cifar"), accuracy=94, minutes=45)
    result = Finetuned(Run(60.0, 1, 1, ""), 0.94, 10_000, "", "", "folder", 2, 2500)
    notes = full_cifar10.make_report(options, [], result).notes
    assert "2,500 of the training images are set aside for validation." in notes
