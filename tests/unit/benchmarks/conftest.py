"""The benchmarks as modules."""

import importlib

import pytest


@pytest.fixture(scope="module")
def benchmarks():
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.fixture(scope="module")
def common(benchmarks):
    return benchmarks("harness.common")


@pytest.fixture(scope="module")
def child(benchmarks):
    return benchmarks("harness.child")
