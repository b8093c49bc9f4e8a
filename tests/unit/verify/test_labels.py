from __future__ import annotations

from pathlib import Path

from bundles import rewrite_golden

from toolkit.bundle import Bundle, read_manifest
from toolkit.bundle.writer import write_manifest
from toolkit.verify.labels import check_labels, check_same_order, targets_of


def test_labels_that_the_manifest_has_are_right_and_others_are_named(colour_bundle: Path) -> None:
    right = check_labels(Bundle.open(colour_bundle))
    assert (right.name, right.passed, right.failures) == ("labels", True, ())
    assert right.detail == "3 labels in their order"
    rewrite_golden(colour_bundle, lambda text: text.replace('"true_label": "red"', '"true_label": "pink"'))
    wrong = check_labels(Bundle.open(colour_bundle))
    assert not wrong.passed
    assert wrong.failures == ("golden samples are labelled pink, which the manifest does not have",)


def test_a_sample_of_which_nobody_knows_the_class_is_no_fault(colour_bundle: Path) -> None:
    rewrite_golden(colour_bundle, lambda text: text.replace('"true_label": "red"', '"true_label": null'))
    assert check_labels(Bundle.open(colour_bundle)).passed


def test_another_order_of_the_labels_fails(colour_bundle: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    assert check_same_order(bundle, bundle).passed
    manifest = read_manifest(colour_bundle)
    write_manifest(colour_bundle, manifest.model_copy(update={"labels": manifest.labels[::-1]}))
    check = check_same_order(Bundle.open(colour_bundle), bundle)
    assert (check.name, check.passed) == ("same labels", False)
    assert "another order than in the other bundle" in check.failures[0]


def test_targets_are_known_only_if_all_are() -> None:
    assert targets_of(("b", "a"), ("a", "b")).tolist() == [1, 0]  # type: ignore[union-attr]  # both labels are known
    assert targets_of(("b", None), ("a", "b")) is None
    assert targets_of((), ("a", "b")) is None
