from __future__ import annotations

import numpy as np
from tiny_training import tiny_recipe, tiny_setting

from benchmarks.planted_labels import Draw, make_report, plant


def test_one_image_of_each_split_gets_another_label() -> None:
    dataset = tiny_setting(tiny_recipe()).dataset
    changed, places = plant(dataset, seed=3)
    for place in places:
        before, after = dataset.split(place.split).targets, changed.split(place.split).targets
        assert np.flatnonzero(before != after).tolist() == [place.position]
        assert set(after.tolist()) <= {0, 1}
    assert [place.split for place in places] == ["train", "validation", "test"]
    assert plant(dataset, seed=3)[1] == places


def test_a_draw_counts_what_is_among_the_first_ten() -> None:
    found, missed = Draw((1, 10, 3), 5, 100), Draw((1, 11, None), 7, 100)
    assert (found.found, missed.found) == (3, 1)
    report = make_report(tiny_recipe(), [found, missed])
    assert (report.claims[0].measured, report.claims[0].met) == ("1 of 2; of single ones 4 of 6", False)
    assert make_report(tiny_recipe(), [found] * 4 + [missed]).claims[0].met
    assert report.tables[0].rows[1] == ("1", "1 of 3", "1, 11, not named", "7")
    assert report.claims[1].met


def test_a_share_of_each_split_is_planted_and_the_first_ten_are_judged() -> None:
    dataset = tiny_setting(tiny_recipe()).dataset
    changed, places = plant(dataset, seed=3, share=0.25)
    for name in ("train", "validation", "test"):
        moved = np.flatnonzero(dataset.split(name).targets != changed.split(name).targets)
        assert moved.tolist() == sorted(place.position for place in places if place.split == name)
        assert len(moved) == round(0.25 * len(dataset.split(name)))
    draws = [Draw((*range(1, 9), 40, None, None, None), 30, 100), Draw((*range(3, 13), None, 90), 10, 100)]
    report = make_report(tiny_recipe(), draws, 0.25)
    assert [(claim.measured, claim.met) for claim in report.claims] == [
        ("80%", True),
        ("median 20, 10 to 30", True),
    ]
    assert report.tables[0].rows[0] == ("0", "8 of 10", "9 of 12 are named, median 5", "30")
