from __future__ import annotations

from dataclasses import replace

import pytest

from toolkit.errors import RecipeError
from toolkit.recipe import Recipe, load_recipe
from toolkit.training.few_images import MOST_NUMBERS
from toolkit.training.plan import (
    SOLVING_SECONDS,
    SOLVING_SECONDS_AT_MOST_NUMBERS,
    Counts,
    Rates,
    estimate,
    fit,
    lines,
    rate,
    scaled,
    with_suggestions,
)

COUNTS = Counts(train=1000, validation=100, test=200)
RATES = Rates(
    image_size=128, prefix=100.0, train={1: 10_000.0, 2: 50.0}, infer=200.0, row_bytes=1000, memory_bytes=2 * 10**9
)


def recipe(**changes: object) -> Recipe:
    return load_recipe("folder").override(
        {
            "stage1.epochs": 2,
            "stage2.epochs": 5,
            "data.check_labels": False,
            **{k.replace("__", "."): v for k, v in changes.items()},
        }
    )


def test_the_parts_add_up() -> None:
    plan = estimate(recipe(), COUNTS, RATES, views=3)
    assert plan.prefix == pytest.approx((3 * 1000 + 100) / 100)
    assert plan.stages == {1: pytest.approx(2 * (0.1 + 0.5)), 2: pytest.approx(5 * (20 + 0.5))}
    assert plan.test == pytest.approx(2 + 1)
    assert plan.seconds == pytest.approx(31 + 1.2 + 102.5 + 3)
    assert plan.disk_bytes == 3100 * 1000
    assert estimate(recipe(), COUNTS, RATES, views=3, kept=True).prefix == 0


def test_the_look_at_the_labels_runs_the_frozen_part_over_the_test_images() -> None:
    with_it, without = (estimate(recipe(data__check_labels=each), COUNTS, RATES, views=3) for each in (True, False))
    assert (with_it.labels, without.labels) == (2.0, 0.0)
    assert with_it.seconds == pytest.approx(without.seconds + 2.0)
    assert "the look at the labels takes about 2 s" in lines(with_it, RATES, 3)[1]
    assert "labels" not in lines(without, RATES, 3)[1]
    assert estimate(recipe(data__check_labels=True), COUNTS, replace(RATES, prefix=None), views=1).labels == 0


def test_without_a_cache_every_epoch_pays_for_the_whole_network() -> None:
    plan = estimate(recipe(stage1__epochs=0), COUNTS, Rates(128, None, {2: 20.0}, 40.0, 0, None), views=1)
    assert (plan.prefix, plan.disk_bytes) == (0.0, 0)
    assert plan.stages == {2: pytest.approx(5 * (50 + 2.5))}
    assert plan.test == pytest.approx(5)


def test_every_epoch_ends_with_a_checkpoint_whatever_the_image_size() -> None:
    rates = replace(RATES, checkpoint=0.5)
    assert estimate(recipe(), COUNTS, rates, views=1).seconds - estimate(
        recipe(), COUNTS, RATES, views=1
    ).seconds == pytest.approx(7 * 0.5)
    assert scaled(rates, 64).checkpoint == 0.5


def test_work_goes_with_the_number_of_pixels() -> None:
    smaller = scaled(RATES, 64)
    assert smaller.prefix == 400
    assert smaller.train == {1: 10_000.0, 2: 200.0}
    assert smaller.row_bytes == 250


def test_what_would_make_it_shorter_is_said_with_its_time() -> None:
    plan = with_suggestions(estimate(recipe(), COUNTS, RATES, 3), recipe(), COUNTS, RATES, 3)
    assert plan.shorter[0] == (
        "--image-size 96",
        pytest.approx(estimate(recipe(), COUNTS, scaled(RATES, 96), 3).seconds),
    )
    assert all(seconds < 0.8 * plan.seconds for _, seconds in plan.shorter)
    said = lines(plan, RATES, 3)
    assert said[0].startswith("plan: about 2 min in all; 0.00 GB of disk, 2.0 GB of memory")
    assert "the frozen part at 100 img/s, 3 views of each training image takes about 31 s" in said[1]
    assert "--image-size 96: about 78 s" in said[2]


def anything(_: int) -> bool:
    return True


def test_what_fits_is_left_as_it_is() -> None:
    asked = recipe(backbone__image_size=128, cache__views=3)
    assert fit(asked, COUNTS, RATES, 3, 1000, anything) == asked


@pytest.mark.parametrize(
    ("budget", "size", "views", "epochs"),
    [(120, 128, 3, 4), (97, 128, 3, 3), (78, 128, 1, 3), (60, 96, 3, 3), (14, 64, 1, 1)],
)
def test_resolution_is_kept_before_views_and_views_before_epochs(
    budget: float, size: int, views: int, epochs: int
) -> None:
    chosen = fit(recipe(backbone__image_size=128), COUNTS, RATES, 3, budget, anything)
    assert (chosen.backbone.image_size, chosen.cache.views, chosen.stage2.epochs) == (size, views, epochs)
    assert estimate(chosen, COUNTS, scaled(RATES, size), views).seconds <= budget


def test_a_size_that_the_backbone_refuses_is_passed_over() -> None:
    def allowed(size: int) -> bool:
        return size != 96

    assert fit(recipe(), COUNTS, RATES, 3, 60, allowed).backbone.image_size == 64


def test_a_budget_that_nothing_fits_is_one_sentence() -> None:
    with pytest.raises(
        RecipeError,
        match=r"^2 s are too short: even at the smallest size .* about \d+ s\. Give more time, or fewer images",
    ):
        fit(recipe(), COUNTS, RATES, 3, 2, anything)


def test_a_rate_leaves_the_first_call_out() -> None:
    now = [0.0]
    calls = []

    def run() -> int:
        calls.append(now[0])
        now[0] += 10.0 if len(calls) == 1 else 0.25
        return 8

    assert rate(run, clock=lambda: now[0], least=1.0) == pytest.approx(32)
    assert len(calls) == 5


def test_patience_is_counted_as_what_it_can_spare() -> None:
    whole = estimate(recipe(), COUNTS, RATES, views=3)
    patient = estimate(recipe(train__patience=2), COUNTS, RATES, views=3)
    assert patient.seconds == whole.seconds
    # Stage 1 has two epochs, which patience does not shorten; of the five of stage 2 it can spare two.
    assert patient.least == pytest.approx(whole.seconds - 2 * 20.5)
    assert lines(patient, RATES, 3)[0].startswith(
        "plan: about 2 min in all (about 2 min if patience ends every stage as early as it can); "
    )
    assert whole.least is None
    assert estimate(recipe(train__patience=4), COUNTS, RATES, views=3).least is None
    uncached = estimate(recipe(train__patience=1), COUNTS, replace(RATES, prefix=None), views=1)
    assert uncached.least == pytest.approx(uncached.seconds - 3 * 20.5)


def test_a_teacher_runs_once_over_every_view() -> None:
    rates = replace(RATES, teacher=25.0, answer_bytes=40)
    plan = estimate(recipe(), COUNTS, rates, views=3)
    without = estimate(recipe(), COUNTS, RATES, views=3)
    assert plan.teacher == pytest.approx(3 * 1000 / 25)
    assert plan.seconds == pytest.approx(without.seconds + 120)
    assert plan.disk_bytes == without.disk_bytes + 3 * 1000 * 40
    assert "; the teacher at 25 img/s takes about 2 min; stage 1" in lines(plan, rates, 3)[1]
    assert estimate(recipe(), COUNTS, rates, views=3, answered=True).teacher == 0
    smaller = scaled(rates, 64)
    assert (smaller.teacher, smaller.answer_bytes) == (25.0, 40)


def test_a_head_that_is_solved_takes_seconds_and_folds_four_times_the_second_stage() -> None:
    counts = replace(COUNTS, numbers_to_solve=10_000, cross_validated=True)
    plan, steps = estimate(recipe(), counts, RATES, views=3), estimate(recipe(), COUNTS, RATES, views=3)
    assert plan.stages == {2: steps.stages[2]}
    solving = SOLVING_SECONDS + SOLVING_SECONDS_AT_MOST_NUMBERS * 10_000 / MOST_NUMBERS
    assert (plan.solving, plan.trial) == (solving, 4 * steps.stages[2])
    assert plan.seconds == pytest.approx(steps.seconds - steps.stages[1] + solving + 4 * steps.stages[2])
    told = lines(plan, RATES, 3)[1]
    assert "takes about 31 s; solving the head takes about 6 s; stage 2 at 50 img/s takes about 2 min" in told
    assert "; trying stage 2 in folds takes about 7 min; the test" in told
    assert "solving" not in lines(steps, RATES, 3)[1]
    many = estimate(recipe(), replace(counts, numbers_to_solve=3 * MOST_NUMBERS), RATES, views=3)
    assert many.solving == SOLVING_SECONDS + 3 * SOLVING_SECONDS_AT_MOST_NUMBERS
    # Without kept activations nothing is tried, and without a stage there is nothing to solve or to try.
    uncached = estimate(recipe(), counts, replace(RATES, prefix=None), views=1)
    assert (uncached.solving, uncached.trial) == (solving, 0.0)
    assert estimate(recipe(stage1__epochs=0), counts, RATES, views=3).solving == 0
    assert estimate(recipe(stage2__epochs=0), counts, RATES, views=3).trial == 0
    patient = estimate(recipe(train__patience=2), counts, RATES, views=3)
    assert patient.least == pytest.approx(patient.seconds - 2 * 20.5)


def test_a_third_stage_is_tried_with_the_second_and_new_views_are_not() -> None:
    counts = replace(COUNTS, numbers_to_solve=10_000, cross_validated=True)
    rates = replace(RATES, train={**RATES.train, 3: 5.0}, new_views=125.0, new_row_bytes=300)
    deeper = recipe(stage3__epochs=2, stage3__unfreeze=6, cache__refresh=0.5)
    plan = estimate(deeper, counts, rates, views=3)
    assert plan.stages == {2: pytest.approx(5 * 20.5), 3: pytest.approx(2 * (200 + 0.5 + 4))}
    assert (plan.trial, plan.new_views) == (pytest.approx(4 * (5 * 20.5 + 2 * 200.5)), pytest.approx(2 * 4))
    told = lines(plan, rates, 3)[1]
    assert "of it for new views; trying stages 2 and 3 in folds takes about" in told
    # A head that is solved draws nothing.
    alone = estimate(recipe(stage2__epochs=0, cache__refresh=0.5), counts, rates, views=3)
    assert (alone.stages, alone.new_views, alone.trial) == ({}, 0.0, 0.0)


def test_statistics_that_are_estimated_anew_are_in_the_plan() -> None:
    changes = {"train__train_bn": True, "train__batch_size": 10}
    with_them, without = (estimate(recipe(**changes, train__bn_reestimate=count), COUNTS, RATES, 1) for count in (4, 0))
    assert (with_them.statistics, without.statistics) == (pytest.approx((40 + 100) / 200), 0.0)
    assert with_them.seconds == pytest.approx(without.seconds + 0.7)
    assert "BatchNorm statistics take about 1 s" in lines(with_them, RATES, 1)[1]
    assert "BatchNorm" not in lines(without, RATES, 1)[1]
    # There are no more batches than images.
    every = estimate(recipe(**changes, train__bn_reestimate=1000), COUNTS, replace(RATES, prefix=None), views=1)
    assert every.statistics == pytest.approx((1000 + 100) / 200)


def test_mirror_images_double_the_test_and_nothing_else() -> None:
    plain, both = (estimate(recipe(model__flip_test=each), COUNTS, RATES, views=3) for each in (False, True))
    assert both.test == pytest.approx(2 * plain.test)
    assert both.seconds == pytest.approx(plain.seconds + plain.test)
    images, twice = (
        estimate(recipe(model__flip_test=each), COUNTS, replace(RATES, prefix=None), views=1) for each in (False, True)
    )
    assert twice.test == pytest.approx(2 * images.test)


def test_a_third_stage_is_counted_and_may_be_left_out() -> None:
    rates = replace(RATES, train={**RATES.train, 3: 5.0})
    deeper = recipe(stage3__epochs=2, stage3__unfreeze=6)
    plan = with_suggestions(estimate(deeper, COUNTS, rates, views=1), deeper, COUNTS, rates, 1)
    assert plan.stages[3] == pytest.approx(2 * (200 + 0.5))
    assert dict(plan.shorter)["--stage3-epochs 0"] == pytest.approx(plan.seconds - plan.stages[3])


def test_new_views_are_computed_before_every_epoch_of_the_last_stage() -> None:
    rates = replace(RATES, new_views=125.0, new_row_bytes=300)
    whole, plan = (estimate(recipe(cache__refresh=share), COUNTS, rates, views=3) for share in (0.0, 0.5))
    assert whole == estimate(recipe(), COUNTS, RATES, views=3)
    assert plan.new_views == pytest.approx(5 * 500 / 125)
    assert plan.stages == {1: whole.stages[1], 2: pytest.approx(whole.stages[2] + 20)}
    assert plan.seconds == pytest.approx(whole.seconds + 20)
    assert plan.disk_bytes == whole.disk_bytes + 500 * 300
    assert "stage 2 at 50 img/s takes about 2 min, 20 s of it for new views; the test takes" in lines(plan, rates, 3)[1]
    assert "new views" not in lines(whole, rates, 3)[1]
    patient = estimate(recipe(cache__refresh=0.5, train__patience=2), COUNTS, rates, views=3)
    assert patient.least == pytest.approx(plan.seconds - 2 * (20.5 + 4))
    smaller = scaled(rates, 64)
    assert (smaller.new_views, smaller.new_row_bytes) == (500.0, 75)
    alone = estimate(recipe(cache__refresh=0.5, stage2__epochs=0), COUNTS, rates, views=3)
    assert alone.new_views == pytest.approx(2 * 4)


def test_new_views_are_shown_to_the_teacher_too() -> None:
    rates = replace(RATES, new_views=125.0, new_row_bytes=300, teacher=25.0, answer_bytes=40)
    without, plan = (estimate(recipe(cache__refresh=share), COUNTS, rates, views=3) for share in (0.0, 0.5))
    assert plan.new_views == pytest.approx(5 * (500 / 125 + 500 / 25))
    assert plan.teacher == without.teacher
    assert plan.disk_bytes == without.disk_bytes + 500 * 340


def test_without_a_cache_nothing_is_computed_before_an_epoch() -> None:
    rates = replace(RATES, prefix=None)
    assert estimate(recipe(cache__refresh=0.5), COUNTS, rates, views=1).new_views == 0


def test_leaving_new_views_out_is_suggested_where_it_saves_much() -> None:
    rates = replace(RATES, new_views=10.0)
    wanted = recipe(cache__refresh=1.0)
    plan = with_suggestions(estimate(wanted, COUNTS, rates, 1), wanted, COUNTS, rates, 1)
    everything = estimate(recipe(), COUNTS, RATES, 1).seconds
    assert ("--refresh-views 0", pytest.approx(everything)) in plan.shorter
