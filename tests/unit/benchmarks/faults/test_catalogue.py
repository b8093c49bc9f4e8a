"""All faults together: named, listed, and each one breaks something."""

import importlib
import json
import pkgutil

import pytest

from benchmarks import fault_detection, faults
from benchmarks.faults.catalogue import ALONE, FAULTS
from benchmarks.faults.fault import Fault, NetworkFault
from benchmarks.faults.probe import Probe
from benchmarks.harness.report import RESULTS


@pytest.fixture
def network_faults():
    return [fault for fault in (*FAULTS, *ALONE) if isinstance(fault, NetworkFault)]


def test_each_network_fault_moves_an_output_further_than_rounding(tiny, noise, network_faults):
    probe = Probe(tiny(), noise)

    for fault in network_faults:
        if not fault.unmeasured:
            assert probe.effect(fault.apply(tiny()).eval()) > 10 * probe.rounding, fault.name


def test_names_are_unique_and_there_are_enough_kinds():
    names = [fault.name for fault in (*FAULTS, *ALONE)]

    assert len(names) == len(set(names))
    assert len(names) >= fault_detection.LEAST


def test_every_fault_that_is_written_is_listed_under_its_own_name():
    modules = [
        importlib.import_module(f"{faults.__name__}.{room.name}") for room in pkgutil.iter_modules(faults.__path__)
    ]
    written = [item for module in modules for item in vars(module).items() if isinstance(item[1], Fault)]

    assert {name.replace("_", "-"): fault for name, fault in written} == {
        fault.name: fault for fault in (*FAULTS, *ALONE)
    }
    assert [fault for fault in (*FAULTS, *ALONE) if fault.alone] == list(ALONE)


def test_the_published_table_is_of_these_faults():
    published = json.loads((RESULTS / "fault_detection.json").read_text(encoding="utf-8"))["measurements"]["cases"]

    tried = {(case["name"], case["what"], case["format"]) for case in published if case["name"]}
    alone = {(fault.name, fault.what, fault.format) for fault in ALONE}
    assert tried - alone == {(fault.name, fault.what, fault.format) for fault in FAULTS}
