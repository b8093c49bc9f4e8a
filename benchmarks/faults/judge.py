"""What ``toolkit verify`` says of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from toolkit.backbones.deployable import TorchSession
from toolkit.bundle import Bundle
from toolkit.bundle.manifest import InputContract
from toolkit.errors import ToolkitError, first_line
from toolkit.provenance import available_cores
from toolkit.run_folder import RunFolder
from toolkit.runtime.selftest import selftest_bundle
from toolkit.verify import run as verify
from toolkit.verify.bundle import verify_bundle
from toolkit.verify.exact import measure_exact
from toolkit.verify.expected import run_reference
from toolkit.verify.inputs import Inputs


@dataclass(frozen=True)
class Verdict:
    """What ``toolkit verify`` said of one artifact."""

    caught: bool
    by: str
    """Names of the checks that failed, or the sentence that refused the bundle."""


_remembered: dict[tuple[str, str, frozenset[str]], Any] = {}


@contextmanager
def reference_once(run: RunFolder) -> Iterator[None]:
    """Let ``verify_run`` compute what PyTorch says of a run's images once.

    It is most of its time, and no fault changes it.
    """
    model = run.record().model_sha256

    def outputs(session: TorchSession, inputs: Inputs, contract: InputContract, on_batch: Callable[[int], None]) -> Any:
        key = (model, "outputs", frozenset[str]())
        if key not in _remembered:
            _remembered[key] = run_reference(session, inputs, contract, on_batch)
        return _remembered[key]

    def exact(*arguments: Any) -> Any:
        key = (model, "exact", frozenset(arguments[4]))
        if key not in _remembered:
            _remembered[key] = measure_exact(*arguments)
        return _remembered[key]

    with mock.patch.object(verify, "run_reference", outputs), mock.patch.object(verify, "measure_exact", exact):
        yield


def judge_alone(bundle: Path) -> Verdict:
    """Ask ``toolkit verify BUNDLE`` and ``toolkit selftest``; a fault that only one of them sees is missed."""
    report = verify_bundle(bundle)
    failed = [check.name for artifact in report.artifacts for check in artifact.checks if not check.passed]
    failed += [check.name for check in report.checks if not check.passed]
    tested = list(selftest_bundle(Bundle.open(bundle), threads=available_cores()))
    seen = bool(tested) and not any(result.passed for result in tested)
    return Verdict(not report.passed and seen, ", ".join((*dict.fromkeys(failed), *(["selftest"] if seen else []))))


def judge(run: RunFolder) -> Verdict:
    """Ask ``toolkit verify``."""
    try:
        with reference_once(run):
            report = verify.verify_run(run)
    except ToolkitError as error:
        return Verdict(True, f"refused: {first_line(error).replace(str(run.path.parent), '...')}")
    failed = [check.name for artifact in report.artifacts for check in artifact.checks if not check.passed]
    failed += [check.name for check in report.checks if not check.passed]
    return Verdict(not report.passed, ", ".join(dict.fromkeys(failed)))
