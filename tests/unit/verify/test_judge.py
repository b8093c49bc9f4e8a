from __future__ import annotations

import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import change_weights

from toolkit.bundle import Bundle
from toolkit.errors import BundleError, MissingDependencyError
from toolkit.results import Check, ParityReport
from toolkit.verify.bundle import GoldenSamples
from toolkit.verify.candidate import Candidate, candidates_of
from toolkit.verify.expected import Judgement
from toolkit.verify.judge import judge
from toolkit.verify.options import VerifyOptions

OPTIONS = VerifyOptions(threads=1)
BISECTING = VerifyOptions(threads=1, bisect=True)


class Samples(GoldenSamples):
    """The golden samples of a bundle; what else is right, a test may say."""

    def __init__(self, bundle: Bundle, right: Path | None = None, *checks: Check) -> None:
        super().__init__(bundle)
        self._right, self._checks = right, checks
        self.asked: list[Candidate] = []
        self.missing: dict[str, str] = {}

    def judgement(self, candidate: Candidate) -> Judgement:
        if candidate.artifact.file in self.missing:
            raise MissingDependencyError(self.missing[candidate.artifact.file])
        return super().judgement(candidate)

    def right_graph(self, candidate: Candidate) -> Any:
        self.asked.append(candidate)
        return nullcontext(self._right)

    def checks(self) -> tuple[Check, ...]:
        return self._checks


@pytest.fixture
def bundle(colour_bundle: Path) -> Bundle:
    return Bundle.open(colour_bundle)


@pytest.fixture
def wrong(colour_bundle: Path, tmp_path: Path) -> Bundle:
    """The bundle with a classifier that is not the one of its golden samples; that one is in ``right.onnx``."""
    shutil.copy(colour_bundle / "model.onnx", tmp_path / "right.onnx")
    change_weights(colour_bundle, lambda weights: weights * np.float32(1.5))
    return Bundle.open(colour_bundle)


def only(bundle: Bundle) -> Candidate:
    (candidate,) = candidates_of(bundle, OPTIONS)
    return candidate


def renamed(candidate: Candidate, file: str, **changes: Any) -> Candidate:
    return replace(candidate, artifact=candidate.artifact.model_copy(update={"file": file}), **changes)


def judged(bundle: Bundle, *candidates: Candidate, **options: Any) -> ParityReport:
    return judge("colours", candidates, Samples(bundle), VerifyOptions(threads=1, **options))


def missing(threads: int) -> Any:
    raise MissingDependencyError("its engine is not installed.")


def test_the_report_says_what_was_judged_by_what(bundle: Bundle) -> None:
    report = judged(bundle, only(bundle))
    assert (report.run, report.reference, report.passed) == ("colours", "its 3 golden samples", True)
    assert [artifact.file for artifact in report.artifacts] == ["model.onnx"]
    assert report.not_judged == {}


def loose(candidate: Candidate) -> Candidate:
    limits = {"logits_absolute": 1e3, "probabilities_absolute": 1.0}
    return replace(candidate, tolerance=candidate.tolerance.model_copy(update=limits))


def test_one_artifact_that_fails_fails_the_report(wrong: Bundle) -> None:
    report = judged(wrong, loose(only(wrong)), only(wrong))
    assert [artifact.passed for artifact in report.artifacts] == [True, False]
    assert not report.passed


def test_a_check_of_the_whole_bundle_that_fails_fails_the_report(bundle: Bundle) -> None:
    check = Check(name="labels", passed=False, failures=("they are wrong",), detail="")
    report = judge("colours", [only(bundle)], Samples(bundle, None, check), OPTIONS)
    assert not report.passed
    assert report.checks == (check,)


def test_a_missing_engine_is_named_and_the_others_are_judged(bundle: Bundle) -> None:
    report = judged(bundle, renamed(only(bundle), "other.bin", opened=missing), only(bundle))
    assert report.passed
    assert [artifact.file for artifact in report.artifacts] == ["model.onnx"]
    assert report.not_judged == {"other.bin": "its engine is not installed."}


def test_so_is_an_artifact_of_which_nobody_here_can_say_what_is_right(bundle: Bundle) -> None:
    samples = Samples(bundle)
    samples.missing = {"other.bin": "the other engine is not installed."}
    report = judge("colours", [only(bundle), renamed(only(bundle), "other.bin")], samples, OPTIONS)
    assert report.not_judged == {"other.bin": "the other engine is not installed."}


def test_where_none_can_be_judged_there_is_no_report(bundle: Bundle) -> None:
    candidates = [renamed(only(bundle), name, opened=missing) for name in ("a.bin", "b.bin")]
    with pytest.raises(
        MissingDependencyError, match=r"^no artifact can be judged here: its engine is not installed\.$"
    ):
        judged(bundle, *candidates)


def test_nothing_to_judge_proves_nothing(bundle: Bundle) -> None:
    report = judged(bundle)
    assert (report.passed, report.artifacts, report.not_judged) == (False, (), {})


def test_an_artifact_that_fails_is_bisected_where_both_sides_are_graphs(wrong: Bundle, tmp_path: Path) -> None:
    samples = Samples(wrong, tmp_path / "right.onnx")
    report = judge("colours", [only(wrong)], samples, BISECTING)
    bisection = report.artifacts[0].bisection
    assert bisection is not None
    assert bisection.first is not None
    assert bisection.first.tensor == "logits"
    no_graph = judge("colours", [replace(only(wrong), bisectable=False)], samples, BISECTING)
    assert no_graph.artifacts[0].bisection is None
    assert len(samples.asked) == 1
    nothing_right = judge("colours", [only(wrong)], Samples(wrong), BISECTING)
    assert nothing_right.artifacts[0].bisection is None


def test_nothing_is_bisected_that_passes_or_that_nobody_asked_for(wrong: Bundle) -> None:
    samples = Samples(wrong)
    judge("colours", [only(wrong)], samples, OPTIONS)
    report = judge("colours", [loose(only(wrong))], samples, BISECTING)
    assert report.passed
    assert samples.asked == []


def test_a_failed_artifact_is_not_passed_over_where_its_graph_cannot_be_read(
    wrong: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match="bisection reads graphs with the onnx package"):
        judge("colours", [only(wrong)], Samples(wrong, tmp_path / "right.onnx"), BISECTING)


def test_a_right_side_that_is_no_graph_is_told(wrong: Bundle, tmp_path: Path) -> None:
    (tmp_path / "right.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match="cannot be read as an ONNX model"):
        judge("colours", [only(wrong)], Samples(wrong, tmp_path / "right.onnx"), BISECTING)
