"""Verdicts over made-up reports, where what is right is known."""

from __future__ import annotations

import numpy as np
import pytest
from bench_reports import HARDWARE, noisy_report, provenance, report, row, timing
from bench_rows import missing

from toolkit.comparison import Limits, compare_figures
from toolkit.comparison.judge import NO_BITS, OTHER_IMAGES
from toolkit.comparison.sides import figures_of_report
from toolkit.errors import ToolkitError
from toolkit.results import BenchReport, Comparison, SpeedComparison


def compared(a: BenchReport, b: BenchReport, limits: Limits | None = None, **how: bool) -> Comparison:
    return compare_figures(figures_of_report(a, "report"), figures_of_report(b, "report"), limits, **how)


def speeds(comparison: Comparison) -> dict[tuple[str, int], SpeedComparison]:
    return {(row.name, speed.batch_size): speed for row in comparison.rows for speed in row.speeds}


STEADY = [100.0 + 0.1 * place for place in range(12)]


def one(rates: list[float], name: str = "onnx", keep_rounds: bool = True, **changes: object) -> BenchReport:
    return report([row(name, [timing(1, rates, keep_rounds)], **changes)])


def test_a_slower_row_is_called_with_its_ratio_and_the_others_are_not() -> None:
    found = compared(noisy_report(1), noisy_report(2, {"onnx": 1.1}))
    verdicts = {key: speed.verdict for key, speed in speeds(found).items()}
    assert verdicts.pop(("onnx", 1)) == verdicts.pop(("onnx", 32)) == "slower"
    assert set(verdicts.values()) == {"no difference shown"}
    slow = speeds(found)["onnx", 1]
    assert slow.ratio == pytest.approx(1 / 1.1, rel=0.03)
    assert slow.interval is not None
    assert slow.interval.level == pytest.approx(1 - 0.05 / 9)
    assert (slow.method, slow.rounds) == ("separate rounds", 12)
    assert (found.tests, found.passed, found.gates) == (9, True, ())


def test_the_same_twice_is_called_different_in_at_most_one_of_twenty_comparisons() -> None:
    called = 0
    for seed in range(100):
        found = compared(noisy_report(seed), noisy_report(seed + 1000))
        called += any(speed.verdict in ("faster", "slower") for speed in speeds(found).values())
    assert called <= 5


def test_paired_rounds_share_the_weather() -> None:
    weather = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.3, 12)))
    a, b = (one(list(weather * rate)) for rate in (100.0, 94.0))
    assert speeds(compared(a, b))["onnx", 1].verdict == "no difference shown"
    found = speeds(compared(a, b, interleaved=True))["onnx", 1]
    assert (found.verdict, found.method) == ("slower", "paired rounds")
    assert found.ratio == pytest.approx(0.94)


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(0.995, "no difference shown"), (0.98, "slower"), (1.02, "faster"), (1.005, "no difference shown")],
)
def test_less_than_one_per_cent_is_never_called(ratio: float, verdict: str) -> None:
    found = compared(one(STEADY), one([ratio * rate for rate in STEADY]), interleaved=True)
    assert speeds(found)["onnx", 1].verdict == verdict


def test_a_gate_fails_only_if_the_whole_interval_is_beyond_the_limit() -> None:
    limits = Limits(throughput=0.05)
    failed = compared(noisy_report(1), noisy_report(2, {"onnx": 1.1}), limits)
    (gate,) = failed.gates
    assert (failed.passed, gate.judged, len(gate.failures)) == (False, 6, 2)
    assert gate.failures[0].startswith("onnx on cpu at batch 1 reaches 0.9")
    assert gate.failures[0].endswith("and 0.950 is allowed")
    assert compared(noisy_report(1), noisy_report(2), limits).passed
    # 10% slower, and so noisy that it may be none: no failure.
    assert compared(noisy_report(1, noise=0.3), noisy_report(2, {"onnx": 1.1}, noise=0.3), limits).passed
    # Slower beyond doubt, by less than the limit: no failure either.
    assert compared(noisy_report(1), noisy_report(2, {"onnx": 1.03}), limits).passed
    # Faster is no loss.
    assert compared(noisy_report(1), noisy_report(2, {"onnx": 0.5}), limits).passed


def test_a_gate_that_judged_nothing_is_not_passed() -> None:
    a, b = one(STEADY), one(STEADY, name="torchscript")
    found = compared(a, b, Limits(throughput=0.05, accuracy=0.01))
    assert not found.passed
    assert [(gate.judged, gate.failures) for gate in found.gates] == [(0, ()), (0, ())]


def test_what_is_only_on_one_side_says_so() -> None:
    a = report([row("onnx", [timing(1, STEADY), timing(8, STEADY)]), row("pt2", [timing(1, STEADY)])])
    b = report(
        [
            row("onnx", [timing(1, STEADY), timing(32, STEADY)]),
            missing("pt2", "cpu", "failed verification"),
            row("new", []),
        ]
    )
    found = compared(a, b)
    assert {row.name: row.missing for row in found.rows} == {
        "onnx": None,
        "pt2": "B has no figures: failed verification",
        "new": "A has no such row",
    }
    assert {size: speed.why for (_, size), speed in speeds(found).items()} == {
        1: None,
        8: "B was not measured at this batch size",
        32: "A was not measured at this batch size",
    }


def test_other_threads_are_not_compared() -> None:
    found = compared(one(STEADY), one(STEADY, threads=1))
    speed = speeds(found)["onnx", 1]
    assert (speed.verdict, speed.why) == ("not comparable", "A ran on 2 threads, B on 1")


def test_too_few_rounds_say_so() -> None:
    speed = speeds(compared(one(STEADY[:3]), one(STEADY[:3])))["onnx", 1]
    assert speed.why == "3 rounds are too few to be sure of this many lines at once: measure again with more"


def test_reports_that_do_not_hold_their_rounds_are_compared_by_their_intervals() -> None:
    old = [one(rates, keep_rounds=False) for rates in (STEADY, [0.9 * rate for rate in STEADY])]
    found = speeds(compared(*old))["onnx", 1]
    assert (found.method, found.verdict) == ("intervals", "slower")
    assert found.ratio == pytest.approx(0.9)
    single = one([100.0], keep_rounds=False)
    assert "one round has no interval" in str(speeds(compared(single, single))["onnx", 1].why)


def test_figures_that_are_no_speeds_are_not_compared() -> None:
    speed = speeds(compared(one(STEADY), one([0.0, *STEADY[1:]])))["onnx", 1]
    assert (speed.verdict, speed.why) == ("not comparable", "a ratio needs figures above 0, at least one a side")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"processor": "Other CPU"}, "processor Example CPU in A, Other CPU in B"),
        ({"cores": 64}, "cores 2 in A, 64 in B"),
    ],
)
def test_another_machine_is_refused_unless_it_is_asked_for(change: dict[str, object], said: str) -> None:
    a = noisy_report(1)
    b = noisy_report(2, provenance=provenance(HARDWARE.model_copy(update=change)))
    with pytest.raises(ToolkitError, match=f"different machines .{said}.*--measure.*--any-machine"):
        compared(a, b)
    assert compared(a, b, any_machine=True).machine_differences == (said,)


def test_another_gpu_matters_only_to_rows_that_ran_on_it() -> None:
    other = provenance(HARDWARE.model_copy(update={"gpu": "A GPU"}))
    assert compared(one(STEADY), report([row("onnx", [timing(1, STEADY)])], provenance=other)).machine_differences == ()
    on_gpu = [
        report([row("onnx", [timing(1, STEADY)], device="cuda")], provenance=made) for made in (provenance(), other)
    ]
    with pytest.raises(ToolkitError, match="GPU none in A, A GPU in B"):
        compared(*on_gpu)


def test_a_machine_that_changed_is_told_from_an_artifact_that_did() -> None:
    everything = dict.fromkeys(("eager", "onnx", "torchscript"), 1.2)
    found = compared(noisy_report(1), noisy_report(2, everything), Limits(throughput=0.05))
    assert found.passed
    assert {speed.verdict for speed in speeds(found).values()} == {"no difference shown"}
    assert sum("the machine has changed between the two: eager" in remark for remark in found.remarks) == 2
    worse = compared(noisy_report(1), noisy_report(2, {**everything, "onnx": 1.6}), Limits(throughput=0.05))
    assert [failure.split(" reaches")[0] for failure in worse.gates[0].failures] == [
        "onnx on cpu at batch 1",
        "onnx on cpu at batch 32",
    ]


def test_another_pytorch_or_network_does_not_stand_for_the_machine() -> None:
    everything = dict.fromkeys(("eager", "onnx", "torchscript"), 1.2)
    for change in ({"provenance": provenance(torch="2.10.0")}, {"model": "test:other"}):
        found = compared(noisy_report(1), noisy_report(2, everything, **change))
        assert {speed.verdict for speed in speeds(found).values()} == {"slower"}
    assert (
        "other versions: torch 2.9.0 in A, 2.10.0 in B"
        in compared(noisy_report(1), noisy_report(2, provenance=provenance(torch="2.10.0"))).remarks
    )


def accuracy(a: BenchReport, b: BenchReport, limits: Limits | None = None):
    found = compared(a, b, limits)
    return found, found.rows[0].accuracy


def test_accuracy_on_the_same_images_is_paired() -> None:
    right = np.ones(1000, np.bool_)
    right[:100] = False
    other = right.copy()
    other[100:120] = False
    found, scored = accuracy(one(STEADY, right=list(right)), one(STEADY, right=list(other)), Limits(accuracy=0.001))
    assert (scored.paired, scored.only_a_right, scored.only_b_right) == (True, 20, 0)
    assert scored.difference == pytest.approx(-0.02)
    assert scored.p_value == pytest.approx(2 / 2**20)
    assert (scored.verdict, found.passed) == ("worse", False)
    assert found.gates[0].failures[0].startswith("onnx on cpu loses 2.00% of the test images")
    # Of other images the same two shares are no difference.
    elsewhere = report([row("onnx", [timing(1, STEADY)], right=list(other))], test_fingerprint="e" * 64)
    found, scored = accuracy(one(STEADY, right=list(right)), elsewhere, Limits(accuracy=0.001))
    assert (scored.paired, scored.why, scored.verdict) == (False, OTHER_IMAGES, "no difference shown")
    assert found.passed


def test_accuracy_of_older_reports_is_not_paired() -> None:
    old = one(STEADY, correct=None)
    assert accuracy(old, one(STEADY))[1].why == NO_BITS
    neither = report(old.rows, test_fingerprint=None)
    assert accuracy(neither, neither)[1].why == OTHER_IMAGES


def test_a_few_images_are_no_difference() -> None:
    right = [True] * 95 + [False] * 5
    assert (
        accuracy(one(STEADY, right=right), one(STEADY, right=[False] * 3 + right[3:]))[1].verdict
        == "no difference shown"
    )


def test_the_interval_alone_does_not_call_a_loss_that_the_exact_test_does_not() -> None:
    """Of 20 images A alone gets 5 right: the interval leaves 0 out, and five heads of five are one in sixteen."""
    right = [True] * 10 + [False] * 10
    a, b = one(STEADY, right=right), one(STEADY, right=[False] * 5 + right[5:])
    found, scored = accuracy(a, b, Limits(accuracy=0.001))
    assert scored.interval.high < -0.001
    assert scored.p_value == pytest.approx(2 / 2**5)
    assert (scored.verdict, found.passed) == ("no difference shown", True)


def test_a_gate_below_what_is_ever_called_fails_on_nothing_that_is_not() -> None:
    a, b = one(STEADY), one([0.993 * rate for rate in STEADY])
    assert compared(a, b, Limits(throughput=0.002), interleaved=True).passed
    assert not compared(a, one([0.98 * rate for rate in STEADY]), Limits(throughput=0.002), interleaved=True).passed


def test_files_sizes_and_unsettled_rows_are_told() -> None:
    unsettled = row("onnx", [timing(1, STEADY).model_copy(update={"settled": False})], sha256="b" * 64, size_bytes=7)
    found = compared(one(STEADY), report([unsettled])).rows[0]
    assert (found.same_file, found.size_a_bytes, found.size_b_bytes) == (False, 13_000_000, 7)
    assert found.speeds[0].remarks == ("B never settled",)
    assert compared(one(STEADY), one(STEADY)).rows[0].same_file


def test_a_machine_that_moved_unnoticed_is_no_difference() -> None:
    """PyTorch itself is too noisy to show that the machine was 4% slower, and everything else is not."""
    called, explained = 0, 0
    for seed in range(30):
        random = np.random.default_rng(seed)

        def side(moved: float, random: np.random.Generator = random) -> BenchReport:
            noise = {"eager": 0.05, "onnx": 0.005, "torchscript": 0.005}
            rates = {name: list(100 * moved * np.exp(random.normal(0, width, 12))) for name, width in noise.items()}
            return report([row(name, [timing(1, each)]) for name, each in rates.items()])

        found = compared(side(1.0), side(0.96), Limits(throughput=0.01))
        called += any(speed.verdict == "slower" for speed in speeds(found).values()) or not found.passed
        remark = "".join(speeds(found)["onnx", 1].remarks)
        explained += "not called, because the machine alone may explain it: eager ran at" in remark
    assert called <= 3  # 5%, and what chance makes of it
    assert explained >= 15


def test_where_nothing_shows_what_the_machine_did_that_is_said() -> None:
    said = "nothing that is the same on both sides was measured at both times"
    a, b = one(STEADY), one(STEADY[::-1])
    assert any(remark.startswith(said) for remark in compared(a, b).remarks)
    assert not any(remark.startswith(said) for remark in compared(a, b, interleaved=True).remarks)
    assert not any(remark.startswith(said) for remark in compared(noisy_report(1), noisy_report(2)).remarks)


LIMITS = Limits(throughput=0.05, accuracy=0.01)


@pytest.mark.parametrize(
    ("b", "throughput", "accuracy"),
    [
        ([], "pt2 on cpu: B has no such row", "pt2 on cpu: B has no such row"),
        (
            [missing("pt2", "cpu", "failed verification")],
            "pt2 on cpu: B has no figures: failed verification",
            "pt2 on cpu: B has no figures: failed verification",
        ),
        (
            [row("pt2", [timing(1, STEADY)], threads=1)],
            "pt2 on cpu at batch 1: A ran on 2 threads, B on 1",
            None,
        ),
        (
            [row("pt2", [timing(8, STEADY)])],
            "pt2 on cpu at batch 1: B was not measured at this batch size",
            None,
        ),
        ([row("pt2", [timing(1, STEADY[:2])])], "pt2 on cpu at batch 1: 2 rounds are too few to be sure", None),
        (
            [row("pt2", [timing(1, [0.0, *STEADY[1:]])])],
            "pt2 on cpu at batch 1: a ratio needs figures above 0",
            None,
        ),
        (
            [row("pt2", [timing(1, STEADY)], test_accuracy=None, correct=None)],
            None,
            "pt2 on cpu: B has no accuracy",
        ),
    ],
)
def test_what_a_gate_cannot_judge_is_not_passed(b: list, throughput: str | None, accuracy: str | None) -> None:
    common = row("onnx", [timing(1, STEADY)])
    found = compared(report([common, row("pt2", [timing(1, STEADY)])]), report([common, *b]), LIMITS)
    assert not found.passed
    for gate, said in zip(found.gates, (throughput, accuracy), strict=True):
        assert gate.failures == ()
        assert gate.judged >= 1
        assert [line[: len(said or "")] for line in gate.not_judged] == ([] if said is None else [said])
    chosen = compare_figures(
        *(figures_of_report(report([common, *rest]), "report") for rest in ([row("pt2", [])], b)), LIMITS, only=["onnx"]
    )
    assert chosen.passed
    assert chosen.tests == 2


def test_what_only_b_has_and_what_a_never_had_is_no_reason_to_stop() -> None:
    common = row("onnx", [timing(1, STEADY)])
    a = report([common, missing("pt2", "cpu", "failed verification")])
    b = report([common, row("pt2", [timing(1, STEADY)]), row("new", [timing(1, STEADY)])])
    found = compared(a, b, LIMITS)
    assert found.passed
    assert [gate.not_judged for gate in found.gates] == [(), ()]


def test_the_gate_of_accuracy_does_not_judge_answers_to_other_questions() -> None:
    a = one(STEADY, right=[True] * 90 + [False] * 10)
    b = report(
        [row("onnx", [timing(1, STEADY)], right=[True] * 10 + [False] * 90)], data="birds", test_fingerprint="0" * 64
    )
    found = compared(a, b, Limits(accuracy=0.01))
    (gate,) = found.gates
    said = "A was tested on images of digits, B on images of birds"
    assert (found.passed, gate.judged, gate.failures, gate.not_judged) == (False, 0, (), (f"onnx on cpu: {said}",))
    assert f"{said}: their accuracies are answers to different questions" in found.remarks


def test_the_same_images_at_another_size_are_paired() -> None:
    right = [True] * 90 + [False] * 10
    a, b = (
        report([row("onnx", [timing(1, STEADY)], right=each)], test_fingerprint=prepared, test_split_fingerprint=split)
        for each, prepared, split in ((right, "0" * 64, "5" * 64), (right[::-1], "1" * 64, "5" * 64))
    )
    scored = compared(a, b).rows[0].accuracy
    assert scored is not None
    assert (scored.paired, scored.only_a_right, scored.only_b_right) == (True, 10, 10)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_another_gpu_is_another_machine_whatever_its_number(device: str) -> None:
    sides = [
        report(
            [row("onnx", [timing(1, STEADY)], device=device)],
            provenance=provenance(HARDWARE.model_copy(update={"gpu": gpu})),
        )
        for gpu in ("one", "other")
    ]
    with pytest.raises(ToolkitError, match="GPU one in A, other in B"):
        compared(*sides)
