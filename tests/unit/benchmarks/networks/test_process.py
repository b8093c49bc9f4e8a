"""What happens to a model that hangs or ends its process is a finding."""

import os
import resource
import time

import pytest

from benchmarks.networks import process
from benchmarks.networks.finding import Finding
from benchmarks.networks.process import Limits, in_its_own_process

# Python warns of forks where PyTorch has threads; the fork of the benchmark starts none itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
LIMITS = Limits(60, 1 << 40)


def examined_by(monkeypatch, examine, limits=LIMITS):
    monkeypatch.setattr(process, "examine", examine)
    return in_its_own_process("a family", "some", ("onnx",), limits)


def test_what_was_found_comes_back(monkeypatch):
    def examine(family, name, formats):
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        return Finding(family, f"timm:{name}", side=limit >> 40, formats=dict.fromkeys(formats, ""))

    found = examined_by(monkeypatch, examine)
    assert found == Finding("a family", "timm:some", side=1, formats={"onnx": ""})


def test_the_smallest_model_stands_for_its_family(monkeypatch):
    monkeypatch.setattr(process, "families", lambda: {"a family": ["large", "small"]})
    monkeypatch.setattr(process, "smallest", lambda names: names[1])
    monkeypatch.setattr(process, "examine", lambda family, name, _: Finding(family, name))
    assert in_its_own_process("a family", "", (), LIMITS).model == "small"


def test_a_model_that_hangs_is_stopped(monkeypatch):
    found = examined_by(monkeypatch, lambda *_: time.sleep(60), Limits(0.2, 1 << 40))
    assert found.failed == "not done after 0.2 s"


def test_a_process_that_ends_says_how(monkeypatch):
    assert examined_by(monkeypatch, lambda *_: os._exit(7)).failed == "its process ended with 7"
