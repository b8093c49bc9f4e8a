"""What is claimed of the faults, and what is told of those that were not tried."""

import pytest

from benchmarks import fault_detection


def test_claims_count_faults_per_backbone_and_good_artifacts(case):
    faults = [
        case(f"f{number}", backbone)
        for backbone in fault_detection.BACKBONES
        for number in range(fault_detection.LEAST)
    ]
    good = [case("", caught=False)]

    assert all(claim.met for claim in fault_detection.report([*faults, *good]).claims)
    assert [claim.met for claim in fault_detection.report([*faults[1:], *good]).claims] == [False, True, True]
    assert [claim.met for claim in fault_detection.report([*faults, case("missed", caught=False), *good]).claims] == [
        True,
        False,
        True,
    ]
    assert [claim.met for claim in fault_detection.report([*faults, case("")]).claims] == [True, True, False]
    assert [claim.met for claim in fault_detection.report([]).claims] == [False, False, False]


def test_a_fault_that_could_not_be_tried_is_told_and_not_counted(case):
    report = fault_detection.report([case("bgr"), case("grey", caught=None, by="it has no colour")])

    assert report.claims[1].measured == "1 of 1"
    assert any("it has no colour" in note for note in report.notes)


def test_a_fault_that_there_is_not_is_refused_with_those_there_are(capsys):
    assert fault_detection.parse(["--fault", "wrong-mean"]).fault == ["wrong-mean"]
    with pytest.raises(SystemExit) as stopped:
        fault_detection.parse(["--fault", "nope"])
    assert stopped.value.code == 2
    refusal = capsys.readouterr().err
    assert "'nope'" in refusal
    assert "wrong-mean" in refusal
