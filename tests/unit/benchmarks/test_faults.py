"""The faults that are planted on purpose: each changes what a network says, and the cases survive a stop."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable
from toolkit.bundle.manifest import Normalization
from toolkit.formats.base import ExportRequest
from toolkit.formats.onnx import OnnxFormat

IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALF = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def benchmarks():
    from benchmarks import fault_detection, fault_peers

    return fault_detection, fault_peers


def tiny(normalization=IMAGENET):
    """Return a network that has one of everything that the faults look for."""
    torch.manual_seed(0)
    classifier = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.2, 0.6)
    return Deployable(classifier, normalization)


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    return np.concatenate(
        [
            random.integers(0, 100, (1, 16, 16, 3), np.uint8),
            np.zeros((1, 16, 16, 3), np.uint8),
            random.integers(0, 256, (6, 16, 16, 3), np.uint8),
        ]
    )


def test_each_network_fault_moves_an_output_further_than_rounding(benchmarks, images):
    cases = sys.modules["benchmarks.faults.cases"]
    probe = cases.Probe(tiny(), images)

    for fault in sys.modules["benchmarks.faults.networks"].FAULTS:
        if fault.fixed_batch is None:
            assert probe.effect(fault.apply(tiny()).eval()) > 10 * probe.rounding, fault.name


def test_what_changes_nothing_is_no_fault(benchmarks, images):
    cases, networks = sys.modules["benchmarks.faults.cases"], sys.modules["benchmarks.faults.networks"]
    probe = cases.Probe(tiny(HALF), images)

    with pytest.raises(networks.NotApplicableError, match="no more than rounding"):
        probe.effect(tiny(HALF))


def test_a_fault_is_planted_where_it_matters(benchmarks, images):
    networks = sys.modules["benchmarks.faults.networks"]
    faults = {fault.name: fault for fault in networks.FAULTS}

    # 0.5 is this network's own mean, and the same in all channels.
    assert not torch.equal(faults["wrong-mean"].apply(tiny(HALF)).offset, tiny(HALF).offset)
    with pytest.raises(networks.NotApplicableError, match="same in all channels"):
        faults["mean-channels-reversed"].apply(tiny(HALF))


def test_the_network_that_overflows_in_float16_is_right_in_float32(benchmarks, images):
    broken = sys.modules["benchmarks.faults.files"].overflowing(tiny().train(False))
    inputs = torch.from_numpy(images)
    with torch.inference_mode():
        torch.testing.assert_close(broken(inputs), tiny()(inputs))
        for parameter in broken.parameters():
            parameter.mul_(10)
        logits, _ = broken(inputs)
        assert logits.abs().max() > 2
        assert not broken.half()(inputs)[0].isfinite().all()


def test_other_weights_in_the_captured_graph_are_what_an_export_of_them_is(benchmarks, images, tmp_path):
    cases, networks = sys.modules["benchmarks.faults.cases"], sys.modules["benchmarks.faults.networks"]
    faults = {fault.name: fault for fault in networks.FAULTS}
    request, sample = ExportRequest("images", cases.OUTPUTS, {}), torch.from_numpy(images[:2])
    weights = cases.Weights(tiny(), request, sample)
    broken = faults["kernel-transposed"].apply(tiny())

    assert weights.suffice(broken)
    assert not weights.suffice(faults["batchnorm-epsilon"].apply(tiny()))
    assert not weights.suffice(faults["bgr"].apply(tiny()))
    weights.export(broken, tmp_path / "captured.onnx")
    OnnxFormat().export(broken, sample, tmp_path / "exported.onnx", request, None)

    captured, exported = (
        OnnxFormat().open(tmp_path / name, "cpu", 1).run(images) for name in ("captured.onnx", "exported.onnx")
    )
    np.testing.assert_array_equal(captured["logits"], exported["logits"])


def test_names_are_unique_and_there_are_enough_kinds(benchmarks):
    detection, _ = benchmarks
    names = [
        fault.name
        for fault in (*sys.modules["benchmarks.faults.networks"].FAULTS, *sys.modules["benchmarks.faults.files"].FAULTS)
    ]

    assert len(names) == len(set(names))
    assert len(names) >= detection.LEAST


def case(detection, name, backbone="timm:tf_efficientnet_lite0", caught=True, **changes):
    run = f"{backbone.rpartition(':')[2]}-0"
    return detection.Case(
        **{
            "run": run,
            "backbone": backbone,
            "name": name,
            "what": "w",
            "format": "onnx",
            "caught": caught,
            "by": "outputs",
            **changes,
        }
    )


def test_a_ledger_goes_on_where_it_was_and_keeps_the_later_of_two(benchmarks, tmp_path):
    detection, _ = benchmarks
    path = tmp_path / detection.LEDGER
    detection.Ledger(path).add(case(detection, "bgr", caught=False))

    ledger = detection.Ledger(path)
    assert ("tf_efficientnet_lite0-0", "bgr", "onnx") in ledger
    ledger.add(case(detection, "bgr"))

    assert [found.caught for found in detection.Ledger(path)] == [True]
    assert len(path.read_text().splitlines()) == 2


def test_claims_count_faults_per_backbone_and_good_artifacts(benchmarks):
    detection, _ = benchmarks
    faults = [
        case(detection, f"f{number}", backbone) for backbone in detection.BACKBONES for number in range(detection.LEAST)
    ]
    good = [case(detection, "", caught=False)]

    assert all(claim.met for claim in detection.report([*faults, *good]).claims)
    assert [claim.met for claim in detection.report([*faults[1:], *good]).claims] == [False, True, True]
    assert [
        claim.met for claim in detection.report([*faults, case(detection, "missed", caught=False), *good]).claims
    ] == [True, False, True]
    assert [claim.met for claim in detection.report([*faults, case(detection, "")]).claims] == [True, True, False]
    assert [claim.met for claim in detection.report([]).claims] == [False, False, False]


def test_a_fault_that_could_not_be_tried_is_told_and_not_counted(benchmarks):
    detection, _ = benchmarks
    report = detection.report([case(detection, "bgr"), case(detection, "grey", caught=None, by="it has no colour")])

    assert report.claims[1].measured == "1 of 1"
    assert any("it has no colour" in note for note in report.notes)


def test_tools_are_set_beside_each_other(benchmarks):
    detection, peers = benchmarks
    cases = [
        case(detection, "bgr", file="broken/bgr.onnx"),
        case(detection, "edited-labels"),
        case(detection, "", caught=False),
    ]
    opinions = {}
    for peer in peers.PEERS:
        for judged, refused, why in zip(cases, (True, False, True), ("far off", peers.NOT_SEEN, "1e-5"), strict=True):
            heard = peers.Heard(peer.name, *judged.key, refused, why)
            opinions[heard.key] = heard

    report = peers.report(cases, opinions)

    assert [claim.met for claim in report.claims] == [True, True]
    assert report.tables[0].rows[0] == (peers.OURS, "2 of 2", "1 of 1", "0 of 1")
    assert report.tables[0].rows[1] == (peers.PEERS[0].name, "1 of 2", "1 of 1", "1 of 1")
    assert report.tables[2].rows[1] == ("edited-labels", "1 of 1", *[peers.NOT_SEEN] * len(peers.PEERS))


def test_opinions_are_read_again(benchmarks, tmp_path):
    _, peers = benchmarks
    path = tmp_path / peers.OPINIONS
    path.write_text(
        json.dumps({"tool": "t", "run": "r", "name": "n", "format": "onnx", "refused": True, "why": "w"}) + "\n"
    )

    assert peers.read_opinions(path)[("t", "r", "n", "onnx")].refused
