"""What a run will cost, from measured rates, and how to make it fit a time budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from toolkit.durations import duration
from toolkit.errors import RecipeError
from toolkit.recipe import Recipe
from toolkit.training.few_images import FOLDS, MOST_NUMBERS, behind_head, stages_in_words

SMALLEST_SIDE = 64
SIDE_STEP = 32
FEWEST_EPOCHS = 3
"""A budget takes resolution and views away before it takes the second stage below this many epochs."""
SOLVING_SECONDS = 5.0
SOLVING_SECONDS_AT_MOST_NUMBERS = 25.0
"""What solving a head takes at least, and how much more at ``few_images.MOST_NUMBERS``; of others in proportion."""
WORTH_SAYING = 0.8
"""A shorter way is suggested if it takes less than this share of the time."""


@dataclass(frozen=True)
class Counts:
    """Images of each split."""

    train: int
    validation: int
    test: int
    numbers_to_solve: int = 0
    """Training images of all processes times classes where the head is solved, see ``toolkit.training.few_images``; 0
    where it is trained by steps."""
    cross_validated: bool = False
    """Whether what comes behind the head is trained in folds first."""


@dataclass(frozen=True)
class Rates:
    """What was measured at one image size.

    Attributes:
        image_size: side in pixels.
        prefix: images per second of decoding and the frozen part; None where training goes on without a cache.
        train: images per second of a training step, by stage number.
        infer: images per second behind the frozen part in inference mode, or of the whole network without a cache.
        row_bytes: kept per view of an image.
        memory_bytes: peak resident memory of this process after the measurement; None where the system does not tell.
        checkpoint: seconds to write one, which happens after every epoch.
        teacher: images per second of decoding and the teacher; None without one.
        answer_bytes: kept of the teacher's answers per view of a training image.
        new_views: images per second of decoding and what the last stage needs of the frozen part; None where no views
            are drawn anew.
        new_row_bytes: kept per new view.
    """

    image_size: int
    prefix: float | None
    train: dict[int, float]
    infer: float
    row_bytes: int
    memory_bytes: int | None
    checkpoint: float = 0.0
    teacher: float | None = None
    answer_bytes: int = 0
    new_views: float | None = None
    new_row_bytes: int = 0


@dataclass(frozen=True)
class Plan:
    """Estimated seconds of each part, and what is needed.

    Attributes:
        prefix: the pass over training and validation images; 0 if the activations are there already.
        stages: seconds by stage number.
        test: the look at the test images.
        disk_bytes: of the activations that are kept.
        memory_bytes: peak resident memory; None where the system does not tell.
        shorter: changes that would make it shorter, as flags, with their seconds.
        solving: the head, in place of the first stage; 0 where steps are made.
        trial: the stages behind it in folds of the training images; 0 without.
        labels: the look at the labels, which runs the frozen part over the test images.
        teacher: the teacher's pass over the training images; 0 without one, or if its answers are there already.
        statistics: of BatchNorm layers, estimated anew at the end, and another look at the validation images.
        least: all of it if patience ends every stage as early as it can; None where it cannot.
        new_views: seconds of the last stage in which views are drawn anew.
    """

    prefix: float
    stages: dict[int, float]
    test: float
    disk_bytes: int
    memory_bytes: int | None
    shorter: tuple[tuple[str, float], ...] = ()
    solving: float = 0.0
    trial: float = 0.0
    labels: float = 0.0
    teacher: float = 0.0
    statistics: float = 0.0
    least: float | None = None
    new_views: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it; with patience at most."""
        before = self.prefix + self.teacher + self.labels + self.solving + self.trial
        return before + sum(self.stages.values()) + self.statistics + self.test


def estimate(
    recipe: Recipe, counts: Counts, rates: Rates, views: int, *, kept: bool = False, answered: bool = False
) -> Plan:
    """Estimate a run at the measured image size.

    Args:
        recipe: epochs and batch size.
        counts: images.
        rates: what was measured.
        views: of each training image.
        kept: the activations are there already.
        answered: the teacher's answers are there already.
    """
    epoch = {
        number: counts.train / rates.train[number] + counts.validation / rates.infer + rates.checkpoint
        for number, _ in recipe.stages
        if number != 1 or not counts.numbers_to_solve
    }
    solving = 0.0
    if counts.numbers_to_solve and recipe.stage1.epochs:
        solving = SOLVING_SECONDS + SOLVING_SECONDS_AT_MOST_NUMBERS * counts.numbers_to_solve / MOST_NUMBERS
    # In folds they are trained on the views that are kept.
    behind = sum(dict(recipe.stages)[number].epochs * epoch[number] for number in behind_head(epoch))
    last, final = recipe.stages[-1]
    drawn = _seconds_of_new_views(recipe, counts, rates)
    if last in epoch:
        epoch[last] += drawn
    seconds = {number: stage.epochs * epoch[number] for number, stage in recipe.stages if number in epoch}
    statistics = _statistics_images(recipe, counts) / rates.infer
    tested = counts.test * (2 if recipe.model.flip_test else 1)
    if rates.prefix is None:
        plan = Plan(0.0, seconds, tested / rates.infer, 0, rates.memory_bytes, solving=solving, statistics=statistics)
        return _with_least(plan, recipe, epoch)
    rows = counts.train * views + counts.validation
    plan = Plan(
        prefix=0.0 if kept else rows / rates.prefix,
        stages=seconds,
        test=tested / rates.prefix + tested / rates.infer,
        disk_bytes=rows * rates.row_bytes
        + counts.train * views * rates.answer_bytes
        + _new_views(recipe, counts, rates) * (rates.new_row_bytes + rates.answer_bytes),
        memory_bytes=rates.memory_bytes,
        solving=solving,
        trial=(FOLDS - 1) * behind if counts.cross_validated else 0.0,
        labels=counts.test / rates.prefix if recipe.data.check_labels else 0.0,
        teacher=0.0 if answered or rates.teacher is None else counts.train * views / rates.teacher,
        statistics=statistics,
        new_views=final.epochs * drawn if last in seconds else 0.0,
    )
    return _with_least(plan, recipe, epoch)


def _statistics_images(recipe: Recipe, counts: Counts) -> int:
    """Return how many images pass for BatchNorm statistics that are estimated anew."""
    batches = recipe.train.bn_reestimate
    return min(batches * recipe.train.batch_size, counts.train) + counts.validation if batches else 0


def _new_views(recipe: Recipe, counts: Counts, rates: Rates) -> int:
    """Return how many views are drawn anew for each epoch of the last stage."""
    return 0 if rates.new_views is None else recipe.cache.new_views(counts.train)


def _seconds_of_new_views(recipe: Recipe, counts: Counts, rates: Rates) -> float:
    """Return what that takes before each of these epochs."""
    count = _new_views(recipe, counts, rates)
    return sum(count / each for each in (rates.new_views, rates.teacher) if each is not None)


def _with_least(plan: Plan, recipe: Recipe, epoch: Mapping[int, float]) -> Plan:
    """Add what a plan takes if no epoch is better than the first of its stage, which is when patience ends it first.

    Args:
        plan: with all the epochs.
        recipe: says how patient.
        epoch: seconds of one, by stage number.
    """
    spared = {
        number: stage.epochs - min(stage.epochs, recipe.train.patience + 1)
        for number, stage in recipe.stages
        if number in epoch
    }
    if recipe.train.patience == 0 or not any(spared.values()):
        return plan
    return replace(plan, least=plan.seconds - sum(epochs * epoch[number] for number, epochs in spared.items()))


def scaled(rates: Rates, image_size: int) -> Rates:
    """Return the rates to expect at another image size: the work of convolutions goes with the number of pixels.

    The head alone does not, so that a first stage is estimated too fast or too slow by what is next to nothing.
    """
    factor = (rates.image_size / image_size) ** 2
    return Rates(
        image_size=image_size,
        prefix=None if rates.prefix is None else rates.prefix * factor,
        train={
            number: rate if number == 1 and rates.prefix is not None else rate * factor
            for number, rate in rates.train.items()
        },
        infer=rates.infer * factor,
        row_bytes=round(rates.row_bytes / factor),
        memory_bytes=rates.memory_bytes,
        checkpoint=rates.checkpoint,
        teacher=rates.teacher,
        answer_bytes=rates.answer_bytes,
        new_views=None if rates.new_views is None else rates.new_views * factor,
        new_row_bytes=round(rates.new_row_bytes / factor),
    )


def with_suggestions(plan: Plan, recipe: Recipe, counts: Counts, rates: Rates, views: int) -> Plan:
    """Add what would make a plan shorter: one change at a time."""
    shorter: list[tuple[str, float]] = []
    for size in _smaller_sides(rates.image_size):
        shorter.append((f"--image-size {size}", estimate(recipe, counts, scaled(rates, size), views).seconds))
    if views > 1 and plan.prefix > 0:
        shorter.append(("--views 1", estimate(recipe, counts, rates, 1).seconds))
    if plan.new_views > 0:
        fixed = recipe.override({"cache.refresh": 0.0})
        kept, answered = plan.prefix == 0, plan.teacher == 0
        seconds = estimate(fixed, counts, rates, views, kept=kept, answered=answered).seconds
        shorter.append(("--refresh-views 0", seconds))
    if recipe.stage2.epochs > FEWEST_EPOCHS:
        fewer = recipe.override({"stage2.epochs": FEWEST_EPOCHS})
        shorter.append(
            (
                f"--stage2-epochs {FEWEST_EPOCHS}",
                estimate(fewer, counts, rates, views, kept=plan.prefix == 0, answered=plan.teacher == 0).seconds,
            )
        )
    if recipe.stage3.epochs > 0:
        without = recipe.override({"stage3.epochs": 0})
        shorter.append(
            (
                "--stage3-epochs 0",
                estimate(without, counts, rates, views, kept=plan.prefix == 0, answered=plan.teacher == 0).seconds,
            )
        )
    useful = [(flag, seconds) for flag, seconds in shorter if seconds < WORTH_SAYING * plan.seconds]
    return replace(plan, shorter=tuple(useful[:3]))


def fit(
    recipe: Recipe, counts: Counts, rates: Rates, views: int, budget: float, allowed: Callable[[int], bool]
) -> Recipe:
    """Return the recipe changed to fit a time budget.

    The largest resolution, then the most views, then the most epochs that fit; a third stage is left as it is.

    Args:
        recipe: as it was asked for; returned as it is if it fits.
        counts: images.
        rates: measured at the recipe's resolution.
        views: of each training image.
        budget: seconds.
        allowed: tells whether the backbone takes an image size.

    Raises:
        RecipeError: nothing fits; names the shortest way.
    """
    most = recipe.stage2.epochs
    fewest = min(FEWEST_EPOCHS, most)
    shortest = float("inf")

    def changed(size: int, kept_views: int, first: int, second: int) -> Recipe:
        return recipe.override(
            {"backbone.image_size": size, "cache.views": kept_views, "stage1.epochs": first, "stage2.epochs": second}
        )

    def cost(candidate: Recipe, size: int, kept_views: int) -> float:
        return estimate(candidate, counts, scaled(rates, size), kept_views).seconds

    for size, kept_views, first, second in _candidates(recipe, rates.image_size, views, fewest):
        if not allowed(size):
            continue
        least = cost(changed(size, kept_views, first, second), size, kept_views)
        shortest = min(shortest, least)
        if least <= budget:
            # Each epoch of the second stage costs the same: as many as fit, never more than were asked for.
            per_epoch = cost(changed(size, kept_views, first, second + 1), size, kept_views) - least
            more = min(most - second, int((budget - least) / per_epoch)) if second >= fewest and per_epoch > 0 else 0
            return changed(size, kept_views, first, second + more)
    raise RecipeError(
        f"{duration(budget)} are too short: even at the smallest size and with the fewest epochs it would take about "
        f"{duration(shortest)}. "
        "Give more time, or fewer images with --train-limit."
    )


def _candidates(recipe: Recipe, size: int, views: int, fewest: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield side, views and the epochs of two stages, from what is kept longest to what is given up last."""
    first = recipe.stage1.epochs
    sizes = [size, *_smaller_sides(size)]
    for side in sizes:
        for count in sorted({views, *(fewer for fewer in (8, 4, 2, 1) if fewer < views)}, reverse=True):
            yield side, count, first, fewest
    for epochs in range(fewest - 1, 0, -1):
        yield sizes[-1], 1, first, epochs
    if first > 0 and fewest > 0:
        yield sizes[-1], 1, 1, 1


def _smaller_sides(size: int) -> list[int]:
    """Return smaller sides, in multiples of what most backbones divide by, largest first."""
    return list(range((size - 1) // SIDE_STEP * SIDE_STEP, SMALLEST_SIDE - 1, -SIDE_STEP))


def lines(plan: Plan, rates: Rates, views: int) -> list[str]:
    """Return a plan for a person, a line per thought."""
    work = [
        f"stage {number} at {rates.train[number]:.0f} img/s takes about {duration(seconds)}"
        for number, seconds in plan.stages.items()
    ]
    if rates.prefix is not None:
        several = f", {views} views of each training image" if views > 1 else ""
        before = (
            f"the frozen part at {rates.prefix:.0f} img/s{several} takes about {duration(plan.prefix)}"
            if plan.prefix
            else "the frozen part is done"
        )
        work.insert(0, before)
    if plan.teacher:
        work.insert(1, f"the teacher at {rates.teacher:.0f} img/s takes about {duration(plan.teacher)}")
    if plan.new_views:
        work[-1] += f", {duration(plan.new_views)} of it for new views"
    if plan.solving:
        work.insert(1 if rates.prefix is not None else 0, f"solving the head takes about {duration(plan.solving)}")
    if plan.trial:
        work.append(f"trying {stages_in_words(behind_head(plan.stages))} in folds takes about {duration(plan.trial)}")
    if plan.labels:
        work.append(f"the look at the labels takes about {duration(plan.labels)}")
    if plan.statistics:
        work.append(f"BatchNorm statistics take about {duration(plan.statistics)}")
    sooner = (
        f" (about {duration(plan.least)} if patience ends every stage as early as it can)"
        if plan.least is not None
        else ""
    )
    memory = f", {plan.memory_bytes / 1e9:.1f} GB of memory" if plan.memory_bytes else ""
    text = [
        f"plan: about {duration(plan.seconds)} in all{sooner}; {plan.disk_bytes / 1e9:.2f} GB of disk{memory}",
        f"  {'; '.join(work)}; the test takes about {duration(plan.test)}",
    ]
    if plan.shorter:
        text.append("  shorter: " + "; ".join(f"{flag}: about {duration(seconds)}" for flag, seconds in plan.shorter))
    return text


def rate(run: Callable[[], int], clock: Callable[[], float] = time.perf_counter, least: float = 0.4) -> float:
    """Return images per second of a function that returns how many it handled; its first call is not counted."""
    run()
    handled, started = 0, clock()
    while (elapsed := clock() - started) < least:
        handled += run()
    return handled / elapsed
