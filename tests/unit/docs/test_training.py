"""What the page on training says of flags, defaults, limits and the log is what the code says."""

from __future__ import annotations

import re

import pytest
from pages import rows, text_of

from benchmarks.means.catalogue import MEANS
from toolkit.recipe import load_recipe, recipe_fields
from toolkit.run_folder import SecondStageTrial, SolvedHead
from toolkit.training.activations.prefix import LITTLE_WORK
from toolkit.training.best_weights import ENOUGH_IMAGES, FAR_ABOVE, MANY_IMAGES, what_validation_tells
from toolkit.training.depthwise import FAST_KERNEL, MOST_CELLS, MOST_PAIRS
from toolkit.training.few_images import (
    FEW_IN_ALL,
    FEW_OF_A_CLASS,
    FOLDS,
    MOST_NUMBERS,
    solved_line,
    trial_line,
)
from toolkit.training.plan import FEWEST_EPOCHS

PAGE = text_of("docs/training.md")
FLAGS = {f"--{name.replace('_', '-')}": dotted for dotted, name, _ in recipe_fields()}
OF_COMMANDS = {"--clear", "--dry-run", "--recipe", "--resume", "--run", "--time-budget"}
OF_BENCHMARKS = {"--held", "--only", "--per-class", "--seeds", "--teacher-backbone"}
OF_TORCHRUN = {"--master-addr", "--master-port", "--nnodes", "--node-rank", "--nproc-per-node"}
NOT_A_FLAG = {"no-probe"}
"""Means that are measured by leaving out what every run does."""


def flag_of(dotted: str) -> str:
    return next(flag for flag, field in FLAGS.items() if field == dotted)


def test_every_flag_is_one() -> None:
    named = {flag.replace("--no-", "--") for flag in re.findall(r"--[a-z0-9][a-z0-9-]*", PAGE.replace("--8<--", ""))}
    assert named - FLAGS.keys() - OF_COMMANDS - OF_BENCHMARKS - OF_TORCHRUN == set()


@pytest.mark.parametrize("name", [means.name for means in MEANS if means.name not in NOT_A_FLAG])
def test_every_means_that_is_measured_is_explained(name: str) -> None:
    means = next(means for means in MEANS if means.name == name)
    assert [field for field in means.changes(load_recipe("folder")) if flag_of(field) in PAGE] != []


def test_the_defaults_are_those_of_the_recipe() -> None:
    recipe = load_recipe("folder")
    said = {first: second for first, second, *_ in rows(PAGE.partition("### Less time")[0])}
    assert recipe.backbone.name == "timm:tf_efficientnet_lite0"
    assert recipe.backbone.image_size is None
    assert "EfficientNet-Lite0" in said["network"]
    assert (recipe.augment.flip, recipe.augment.shift, recipe.cache.views) == (True, 0.1, None)
    assert "mirrored" in said["images"]
    assert f"{recipe.stage1.epochs} epochs" in said["stage 1"]
    assert f"the last {recipe.stage2.unfreeze} blocks, {recipe.stage2.epochs} epochs" in said["stage 2"]
    assert recipe.train.loss == "cross_entropy"
    assert f"smoothed by {recipe.train.label_smoothing}, batches of {recipe.train.batch_size}" in said["loss"]
    assert f"{MANY_IMAGES:,} validation images or more" in said["kept"]


def test_the_third_stage_has_half_the_rates_of_the_second() -> None:
    recipe = load_recipe("folder")
    command = re.search(r"^toolkit finetune .*--stage3-epochs.*\\\n.*\n", PAGE, re.MULTILINE)
    assert command is not None
    given = dict(re.findall(r"(--stage\S+) (\S+)", command[0]))
    own = recipe.override({FLAGS[flag]: value for flag, value in given.items()})
    second, third = recipe.stage2, own.stage3
    assert own.stage2.epochs + third.epochs == second.epochs
    assert (third.optimizer, third.schedule, third.weight_decay) == (
        second.optimizer,
        second.schedule,
        second.weight_decay,
    )
    assert (third.head_lr, third.backbone_lr) == (second.head_lr / 2, second.backbone_lr / 2)
    plain = recipe.override({"stage3.epochs": 2, "stage3.unfreeze": 6}).stage3
    assert (plain.optimizer, plain.schedule, plain.head_lr, plain.backbone_lr) == ("sgd", "constant", 0.001, 0.0001)
    assert f"SGD at constant rates, {plain.head_lr} for the head and {plain.backbone_lr} for" in PAGE


def test_the_limits_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    assert f"up to {FEW_IN_ALL:,} training images or up to {FEW_OF_A_CLASS} a class" in text
    assert f"images times classes are at most {MOST_NUMBERS:,}" in text
    assert FOLDS == 5
    assert "in five folds" in text
    assert f"Fewer than {ENOUGH_IMAGES} validation images" in text
    assert f"- **{MANY_IMAGES:,} or more**" in text
    assert f"- **{ENOUGH_IMAGES} to {MANY_IMAGES - 1}**" in text
    assert FAR_ABOVE == (2.0, 0.1)
    assert "more than twice that of what is kept, and 0.1 nats on top" in text
    assert f"Below {LITTLE_WORK / 1e9:.0f} billion multiply-adds" in text
    assert f"(down to {FEWEST_EPOCHS})" in text
    assert MOST_PAIRS == 64 * 64
    assert MOST_CELLS == {"AVX2": 1.5, "AVX512": 2.0}
    assert "at most 1.5 cells for each weight of the kernel with AVX2 and 2 with AVX-512" in text
    assert f"at most 64 x 64 pairs, and the kernel is larger than {FAST_KERNEL} x {FAST_KERNEL}" in text


def test_the_log_says_what_is_quoted() -> None:
    validation, _, _ = what_validation_tells(load_recipe("folder"), 5).partition(". ")
    assert f"`{validation}`" in " ".join(PAGE.split())
    head = SolvedHead(images=54, views=4, l2=0.01, folds=5, accuracy=0.889)
    trial = SecondStageTrial(without=0.889, with_it=0.872, standard_error=0.021, trained=False)
    assert f"\n{solved_line(head, 3)}\n{trial_line(trial, (2,))}\n" in PAGE
