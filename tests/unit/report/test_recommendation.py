"""What to ship."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from full_runs import parity_of, provenance, row, timing

from toolkit.report.recommendation import recommend
from toolkit.results import BatchTiming, BenchReport, BenchRow, Estimate, Interval, ParityReport, SettingTiming, Tuned


def artifact(name: str, one: float, many: float, **changes: Any) -> BenchRow:
    """A row with these images per second at batch size 1 and 32, 3% to each side, and no sweep."""
    given = {"name": name, "file": f"model.{name}", "timings": (timing(1, one, 0), timing(32, many, 0))}
    return row("onnx", 1000, 980).model_copy(update={**given, "sweep": (), "tuned": (), **changes})


def eager(one: float = 100.0, many: float = 400.0) -> BenchRow:
    return artifact("eager", one, many, file=None, sha256=None)


def report(*rows: BenchRow) -> BenchReport:
    return BenchReport(run="r", model="m, 8 x 8", data="d", rows=rows, seconds=1.0, provenance=provenance())


def verdicts(*passed: str, failed: tuple[str, ...] = (), lost: dict[str, int] | None = None) -> ParityReport:
    artifacts = [parity_of(name, 1000, (lost or {}).get(name, 0)) for name in passed]
    artifacts += [parity_of(name, 1000, 0).model_copy(update={"passed": False}) for name in failed]
    return ParityReport(
        run="r", reference="PyTorch", passed=not failed, artifacts=tuple(artifacts), provenance=provenance()
    )


def manifest(**artifacts: dict[str, Any]) -> Any:
    """What a recommendation reads of a manifest."""
    told = {"carries_code": False, "portability": "any", "sha256": "a" * 64, "parity": None}
    return SimpleNamespace(
        artifacts=[SimpleNamespace(file=f"model.{name}", **{**told, **facts}) for name, facts in artifacts.items()]
    )


def without_ratio(timing: BatchTiming) -> BatchTiming:
    return timing.model_copy(update={"ratio": None})


def chosen(found: Any) -> list[tuple[str, str, str]]:
    return [(choice.device, choice.purpose, choice.chosen.row.name) for choice in found.choices]


def test_the_fastest_at_one_image_for_latency_and_at_any_batch_size_for_throughput() -> None:
    rows = (eager(), artifact("a", 300, 500), artifact("b", 200, 900))
    found = recommend(report(*rows), verdicts("a", "b"), None)
    assert chosen(found) == [("cpu", "latency", "a"), ("cpu", "throughput", "b")]
    latency, throughput = found.choices
    paired = [choice.chosen.row.timings[place].ratio for place, choice in enumerate(found.choices)]
    assert [latency.speedup, throughput.speedup] == [ratio.median for ratio in paired if ratio is not None]
    unpaired = [row.model_copy(update={"timings": tuple(without_ratio(each) for each in row.timings)}) for row in rows]
    latency_alone, throughput_alone = recommend(report(*unpaired), verdicts("a", "b"), None).choices
    assert (latency_alone.speedup, throughput_alone.speedup) == (pytest.approx(3.0), pytest.approx(900 / 400))
    assert (latency.as_fast, throughput.as_fast) == ((), ())
    assert (latency.chosen.speed.batch_size, throughput.chosen.speed.batch_size) == (1, 32)


def test_what_failed_or_was_not_judged_is_not_recommended_however_fast() -> None:
    rows = (eager(900, 9000), artifact("a", 300, 500), artifact("wrong", 800, 8000), artifact("unseen", 800, 8000))
    found = recommend(report(*rows), verdicts("a", failed=("wrong",)), None)
    assert {name for _, _, name in chosen(found)} == {"a"}
    assert [each.name for each in found.considered] == ["a"]


def test_a_verdict_on_another_file_counts_for_nothing() -> None:
    found = recommend(report(artifact("a", 300, 500, sha256="b" * 64)), verdicts("a"), None)
    assert found.choices == ()
    assert found.reason == "There is nothing to ship: no artifact that was measured has passed parity with PyTorch."


def test_without_a_report_the_verdicts_of_the_manifest_count() -> None:
    good, bad = SimpleNamespace(passed=True), SimpleNamespace(passed=False)
    facts = manifest(a={"parity": good, "total_bytes": 1}, b={"parity": bad, "total_bytes": 1})
    found = recommend(report(artifact("a", 300, 500), artifact("b", 900, 900)), None, facts)
    assert {name for _, _, name in chosen(found)} == {"a"}


@pytest.mark.parametrize(
    ("facts", "taken"),
    [
        ({"fast": {"total_bytes": 5}, "other": {"total_bytes": 9}}, "fast"),
        ({"fast": {"total_bytes": 9}, "other": {"total_bytes": 5}}, "other"),
        ({"fast": {"total_bytes": 5, "carries_code": True}, "other": {"total_bytes": 9}}, "other"),
        ({"fast": {"total_bytes": 5, "portability": "same-machine"}, "other": {"total_bytes": 9}}, "other"),
        (
            {
                "fast": {"total_bytes": 9, "portability": "same-machine"},
                "other": {"total_bytes": 9, "carries_code": True},
            },
            "other",
        ),
    ],
)
def test_where_the_difference_is_not_shown_the_easier_one_is_taken(facts: dict[str, Any], taken: str) -> None:
    rows = (artifact("fast", 300, 600), artifact("other", 290, 590))  # 3% to each side
    found = recommend(report(*rows), verdicts("fast", "other"), manifest(**facts))
    assert {name for _, _, name in chosen(found)} == {taken}
    level = {"fast", "other"} - {taken}
    assert {other.row.name for choice in found.choices for other in choice.as_fast} == level


def test_no_artifact_is_shown_to_be_faster_than_the_chosen_one_though_the_fastest_is_uncertain() -> None:
    """``wide`` overlaps both others, of which ``quick`` is shown to be faster than ``slow``."""

    def rated(name: str, low: float, median: float, high: float) -> BenchRow:
        made = artifact(name, median, median)
        rate = Estimate(median=median, interval=Interval(low=low, high=high), rounds=7)
        return made.model_copy(
            update={"timings": tuple(each.model_copy(update={"throughput": rate}) for each in made.timings)}
        )

    rows = (rated("wide", 80, 110, 140), rated("slow", 81, 85, 89), rated("quick", 98, 99, 100))
    facts = manifest(wide={"total_bytes": 9}, slow={"total_bytes": 1}, quick={"total_bytes": 5})
    for choice in recommend(report(*rows), verdicts("wide", "slow", "quick"), facts).choices:
        assert choice.chosen.row.name == "quick"
        assert [other.row.name for other in choice.as_fast] == ["wide"]


def test_where_it_is_shown_the_fastest_is_taken_however_large() -> None:
    facts = manifest(fast={"total_bytes": 900, "carries_code": True}, other={"total_bytes": 1})
    rows = (artifact("fast", 300, 600), artifact("other", 280, 560))
    found = recommend(report(*rows), verdicts("fast", "other"), facts)
    assert {name for _, _, name in chosen(found)} == {"fast"}


def test_a_shown_loss_of_accuracy_is_said_and_what_has_none_is_named() -> None:
    rows = (artifact("int8", 300, 600), artifact("plain", 200, 400))
    found = recommend(report(*rows), verdicts("int8", "plain", lost={"int8": 20}), None)
    assert {name for _, _, name in chosen(found)} == {"int8"}
    assert {choice.lossless.row.name for choice in found.choices if choice.lossless} == {"plain"}
    assert all(choice.chosen.loses_accuracy for choice in found.choices)


def test_of_two_that_are_level_the_one_without_a_loss_is_taken() -> None:
    facts = manifest(int8={"total_bytes": 1}, plain={"total_bytes": 9})
    rows = (artifact("int8", 300, 600), artifact("plain", 295, 595))
    found = recommend(report(*rows), verdicts("int8", "plain", lost={"int8": 20}), facts)
    assert {name for _, _, name in chosen(found)} == {"plain"}
    assert [choice.lossless for choice in found.choices] == [None, None]


def test_each_device_has_its_own_choice() -> None:
    rows = (artifact("a", 300, 500), artifact("b", 200, 400), artifact("b", 900, 9000, device="cuda"))
    found = recommend(report(*rows), verdicts("a", "b"), None)
    assert chosen(found) == [
        ("cpu", "latency", "a"),
        ("cpu", "throughput", "a"),
        ("cuda", "latency", "b"),
        ("cuda", "throughput", "b"),
    ]
    assert found.of("latency", "cuda") is found.choices[2]
    assert found.of("latency") is found.choices[0]


def swept(name: str, rate: float, streams: int) -> BenchRow:
    def setting(batch_size: int, streams: int, rate: float) -> SettingTiming:
        spread = Interval(low=rate * 0.99, high=rate * 1.01)
        return SettingTiming(
            batch_size=batch_size,
            threads=1,
            streams=streams,
            throughput=Estimate(median=rate, interval=spread, rounds=5),
            latency=timing(batch_size * streams, rate, 0).latency,
        )

    settings = (setting(1, 1, rate), setting(16, streams, 20 * rate))
    tuned = tuple(
        Tuned(
            purpose=purpose,  # type: ignore[arg-type]  # a text where pydantic checks the literal
            batch_size=best.batch_size,
            threads=1,
            streams=best.streams,
            images_per_second=best.throughput.median,
            latency_p50_seconds=best.latency.p50_seconds,
        )
        for purpose, best in zip(("latency", "throughput"), settings, strict=True)
    )
    return artifact(name, rate, 2 * rate, sweep=settings, tuned=tuned)


def test_where_all_were_swept_their_best_settings_are_compared() -> None:
    found = recommend(report(swept("a", 300, 2), swept("b", 200, 4)), verdicts("a", "b"), None)
    throughput = found.of("throughput")
    assert throughput is not None
    assert (throughput.chosen.speed.streams, throughput.chosen.speed.tuned) == (2, True)
    assert throughput.chosen.speed.images_per_second.median == 6000
    assert throughput.speedup is None  # PyTorch was not swept


def test_where_one_was_not_swept_all_are_compared_without_it() -> None:
    found = recommend(report(swept("a", 300, 2), artifact("b", 310, 1000)), verdicts("a", "b"), None)
    throughput = found.of("throughput")
    assert throughput is not None
    assert (throughput.chosen.row.name, throughput.chosen.speed.tuned) == ("b", False)


def test_times_that_never_became_stable_are_said() -> None:
    restless = tuple(each.model_copy(update={"settled": False}) for each in artifact("a", 300, 500).timings)
    found = recommend(report(artifact("a", 300, 500, timings=restless)), verdicts("a"), None)
    assert [choice.unsettled for choice in found.choices] == [True, True]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ((eager(),), "There is nothing to ship: no artifact was exported or measured."),
        (
            (artifact("a", 1, 1, timings=(), missing="the worker was killed"),),
            "There is nothing to recommend: no artifact that passed parity could be measured.",
        ),
    ],
)
def test_why_there_is_nothing_to_ship(rows: tuple[BenchRow, ...], reason: str) -> None:
    assert recommend(report(*rows), verdicts("a"), None).reason == reason


def test_what_nobody_has_judged_is_not_said_to_have_failed() -> None:
    found = recommend(report(artifact("a", 300, 500)), None, manifest(a={"total_bytes": 1}))
    assert found.choices == ()
    assert found.reason == (
        "There is nothing to recommend: no artifact was compared with PyTorch yet, which 'toolkit verify' does."
    )


@pytest.mark.parametrize(("images", "unknown"), [(3, True), (40, True), (400, False)])
def test_of_a_few_images_no_loss_is_not_said_to_be_none(images: int, unknown: bool) -> None:
    verdict = verdicts("a").model_copy(update={"artifacts": (parity_of("a", images, 0),)})
    found = recommend(report(artifact("a", 300, 500)), verdict, None)
    assert {choice.chosen.loss_is_unknown for choice in found.choices} == {unknown}
