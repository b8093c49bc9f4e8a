"""The benchmark scripts as modules: they are no package, and import each other by name."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up, and the scripts import _common
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def benchmarks():
    """Return a loader of the scripts, and forget them afterwards."""
    before = set(sys.modules)
    for name in ("_child", "_common", "_textbook"):
        load(name)
    yield load
    for name in {
        "_child",
        "_common",
        "_textbook",
        "scaling",
        "full_cifar10",
        "finetune_vs_textbook",
        "time_to_accuracy",
        "textbook_script",
    } - before:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def common(benchmarks):
    return sys.modules["_common"]


@pytest.fixture(scope="module")
def child(benchmarks):
    return sys.modules["_child"]
