"""The records in words."""

from __future__ import annotations

import pytest
from full_runs import parity_of, write_full_run

from tests.unit.report.test_recommendation import artifact, eager, manifest, report, verdicts
from toolkit.report import sentences
from toolkit.report.recommendation import recommend
from toolkit.report.records import RunRecords, read_records
from toolkit.results import Flip
from toolkit.run_folder import DuplicateSummary


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RunRecords:
    return read_records(write_full_run(tmp_path_factory.mktemp("full") / "cifar", images=200, mistakes=3))


def lines(*rows, lost=None, facts=None):
    names = [each.name for each in rows if each.file is not None]
    return sentences.recommendation_lines(recommend(report(*rows), verdicts(*names, lost=lost), facts))


def test_a_clear_winner() -> None:
    latency, throughput = lines(eager(), artifact("a", 300, 800), artifact("b", 200, 600))
    assert latency.startswith("For latency, ship a. Half of all calls take at most ")
    assert "2.54x the throughput of plain PyTorch. No other artifact that passed parity is as fast." in latency
    assert latency.endswith(
        "No loss of accuracy is shown for a: +0.0 [-0.4, 0.4] points beside PyTorch on 1000 test images."
    )
    assert throughput == (
        "For throughput, ship a. 800 [776, 824] images/s (batch size 32, 8 threads), 6.78x the throughput of plain "
        "PyTorch at the batch size that suits it best. No other artifact that passed parity is as fast."
    )


def test_a_tie_says_that_the_difference_is_not_shown_and_why_one_was_taken() -> None:
    facts = manifest(a={"total_bytes": 9_000_000, "carries_code": True}, b={"total_bytes": 9_000_000})
    found = lines(artifact("a", 300, 800), artifact("b", 299, 799), facts=facts)[0]
    assert "A difference in speed from a is not shown; b was taken because its file cannot hold code." in found
    facts = manifest(a={"total_bytes": 9_000_000}, b={"total_bytes": 3_500_000})
    found = lines(artifact("a", 300, 800), artifact("b", 299, 799), facts=facts)[0]
    assert "b was taken because it is the smallest (3.50 MB)." in found
    facts = manifest(a={"total_bytes": 9, "portability": "same-machine"}, b={"total_bytes": 9})
    assert (
        "because it is not bound to one machine." in lines(artifact("a", 300, 8), artifact("b", 299, 8), facts=facts)[0]
    )


def test_a_loss_is_said_with_its_interval_and_the_way_around_it() -> None:
    found = lines(artifact("int8", 300, 800), artifact("b", 200, 600), lost={"int8": 20})[0]
    assert "int8 costs accuracy: -2.0 [-3.1, -1.2] points beside PyTorch on 1000 test images." in found
    assert "Without that loss, ship b (200 images/s, " in found


def test_of_three_images_nobody_says_that_no_loss_is_shown() -> None:
    verdict = verdicts("a").model_copy(update={"artifacts": (parity_of("a", 3, 0),)})
    found = sentences.recommendation_lines(recommend(report(artifact("a", 300, 800)), verdict, None))[0]
    assert found.endswith(
        "Whether a costs accuracy is not known: +0.0 [-56.1, 56.1] points beside PyTorch on 3 test images, which are "
        "too few to tell."
    )


def test_nothing_to_ship_is_one_sentence() -> None:
    assert lines(eager()) == ["There is nothing to ship: no artifact was exported or measured."]


def test_parity_in_words() -> None:
    assert sentences.parity_sentence(parity_of("onnx", 1000, 0)) == (
        "onnx passed in float32: on 1000 test images and 8 edge inputs, no logit is off by more than 1.2e-06, 3.0e-07 "
        "of the largest one of the same image; every input has the same most probable class."
    )
    flip = Flip(
        input="1.png", batch_size=1, reference_label="a", artifact_label="b", reference_margin=0.2, counted=True
    )
    failed = parity_of("onnx", 1000, 0, (flip,)).model_copy(update={"passed": False})
    assert sentences.parity_sentence(failed).startswith("onnx failed in float32")
    assert sentences.parity_sentence(failed).endswith(
        "1 input has another most probable class, 1 of them by more than the tolerance explains."
    )
    broken = failed.model_copy(update={"outputs": ()})
    assert sentences.parity_sentence(broken) == "onnx failed: it could not be run."


def test_what_there_is_to_know_of_the_data(records: RunRecords) -> None:
    assert sentences.data_lines(records) == [
        "3 images are a copy of another one, 2 more in another encoding or size.",
        "1 picture has two labels.",
        "1 test image is in an earlier split too.",
    ]


def test_an_imbalance_and_what_was_not_looked_for(records: RunRecords) -> None:
    assert records.record is not None
    data = records.record.data
    train = data.splits["train"].model_copy(update={"per_class": (900, *(9,) * 9)})
    none = DuplicateSummary(copies=0, near_copies=None, two_classes=0, leaked={}, groups=())
    changed = data.model_copy(update={"splits": {**data.splits, "train": train}, "duplicates": none})
    said = sentences.data_lines(RunRecords(records.bench, record=records.record.model_copy(update={"data": changed})))
    assert said[0].startswith("Strong imbalance: 'airplane' has 900 training images, ")
    assert said[1:] == [
        "0 images are a copy of another one.",
        "Copies in another encoding or size were not looked for (--check-duplicates).",
    ]


def test_the_machine_and_how_busy_it_was(records: RunRecords) -> None:
    lines = sentences.machine_lines(records.bench)
    assert lines[0] == "Example CPU @ 2.60GHz, 8 cores, 16.0 GB memory, Linux 6.1; GPU: none."
    assert lines[-3] == (
        "During the benchmark: load average 6.10, 22.0% of the processor time went to other programs, 3.0% was stolen "
        "by the hypervisor, 2594 MHz."
    )
    assert lines[-2] == "Fastest float32 matrix product on CPU with 8 threads: 210 GFLOP/s."
    assert lines[-1] == "One image takes 0.800 GFLOP."


def test_the_commands_that_make_it_again(records: RunRecords) -> None:
    assert sentences.again(records) == [
        "toolkit finetune --recipe artifacts/cifar/recipe.toml --run cifar-again",
        "toolkit export cifar-again",
        "toolkit verify cifar-again",
        "toolkit bench cifar-again",
    ]


def test_the_calibration_says_in_which_direction(records: RunRecords) -> None:
    assert records.review is not None
    sure = records.review.calibration[-1].model_copy(update={"confidence": 0.95, "accuracy": 0.75, "images": 10})
    review = records.review.model_copy(update={"calibration": (sure,)})
    said = sentences.calibration_sentence(RunRecords(records.bench, evaluation=records.evaluation, review=review))
    assert said is not None
    assert said.endswith("(expected calibration error); the model is on the whole 20.0 points too sure.")


@pytest.mark.parametrize(("seconds", "said"), [(31.2, "31 s"), (1431, "24 min"), (9000, "2.5 h")])
def test_a_duration(seconds: float, said: str) -> None:
    assert sentences.duration(seconds) == said


def test_names_in_a_list() -> None:
    assert sentences.listed(["a"]) == "a"
    assert sentences.listed(["a", "b", "c"]) == "a, b and c"
