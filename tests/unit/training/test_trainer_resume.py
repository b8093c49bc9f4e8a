"""A run that is stopped, and goes on from a checkpoint."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
from tiny_runs import Run, require_same_end, same

from toolkit.training.interruption import StoppedError
from toolkit.training.meter import Step


def test_a_checkpoint_after_every_epoch_and_one_at_the_end_of_a_stage() -> None:
    run = Run()
    run.trainer.run()
    assert [(saved.stage, saved.epoch, saved.step) for saved in run.saved] == [
        (1, 2, 0),
        (2, 1, 0),
        (2, 2, 0),
        (2, 3, 0),
        (3, 1, 0),
    ]
    assert run.saved[0].optimizer
    assert not run.saved[1].optimizer
    assert set(run.saved[-1].model) == {
        name
        for name in run.weights()
        if name.startswith(("body", "fc")) and not name.endswith(("mean", "var", "tracked"))
    }


CHANGES = {"augment__mixup": 0.4, "augment__shift": 0.2, "stage2__schedule": "cosine", "train__train_bn": True}

MEANS = {
    "moving average": {"train__ema": 0.8, **CHANGES},
    "mean of epochs": {"train__average_last": 2, "stage2__layer_decay": 0.5, **CHANGES},
    "patience and cutmix": {"train__patience": 1, "augment__cutmix": 1.0, "stage2__head_lr": 1e-9, **CHANGES},
    "stochastic depth and dropout": {"train__drop_path": 0.5, "train__dropout": 0.3, **CHANGES},
    "sharpness": {"train__sam_rho": 0.1, "train__dropout": 0.3, **CHANGES},
    "statistics": {"train__bn_reestimate": 2, "train__average_last": 2, **CHANGES},
    "a third stage": {"stage3__epochs": 1, "stage3__unfreeze": 2, "stage3__backbone_lr": 0.01, **CHANGES},
}


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("checkpoint", [2, 6, 8, 11, 13])
def test_with_any_means_it_goes_on_from_any_checkpoint(means: str, checkpoint: int) -> None:
    whole = Run(train__checkpoint_minutes=1e-9, **MEANS[means])
    whole.trainer.run()
    rest = Run(copy.deepcopy(whole.saved[checkpoint]), **MEANS[means])
    rest.trainer.run()
    require_same_end(rest, whole)


@pytest.mark.parametrize("checkpoint", range(1, 15))
def test_from_any_checkpoint_it_ends_as_if_it_had_not_been_interrupted(checkpoint: int) -> None:
    whole = Run(train__checkpoint_minutes=1e-9, **CHANGES)
    whole.trainer.run()
    assert len(whole.saved) == 3 * 5 + 3 + 2
    rest = Run(copy.deepcopy(whole.saved[checkpoint]), **CHANGES)
    rest.trainer.run()
    require_same_end(rest, whole)


@pytest.mark.usefixtures("in_torch")
@pytest.mark.parametrize("ended", [False, True])
def test_what_is_kept_anew_when_a_run_goes_on_is_of_the_network_as_it_was(own_cache: Path, ended: bool) -> None:
    """Stage 1 takes as frozen what stage 2 has trained: other runs may begin with what is kept for it."""
    changes = {"cache__use": True, "train__train_bn": True, "train__bn_reestimate": 2}
    whole = Run(**changes)
    whole.finish()
    before = {path: path.read_bytes() for path in own_cache.rglob("*.bin")}
    for folder in own_cache.iterdir():
        shutil.rmtree(folder)
    state = next(saved for saved in whole.saved if (saved.stage, saved.epoch) == ((3, 1) if ended else (2, 2)))
    rest = Run(copy.deepcopy(state), **changes)
    rest.finish()
    require_same_end(rest, whole)
    assert len(before) == 4
    assert {path: path.read_bytes() for path in own_cache.rglob("*.bin")} == before


def test_asked_to_stop_it_ends_after_the_step_and_has_saved_it() -> None:
    def stop(step: Step) -> None:
        run.stopper.requested = (step.stage, step.number) == (2, 3)

    run = Run(on_step=stop)
    with pytest.raises(StoppedError, match=r"stopped at stage 2, epoch 1, step 3, and saved\."):
        run.trainer.run()
    assert (run.saved[-1].stage, run.saved[-1].epoch, run.saved[-1].step) == (2, 1, 3)
    assert run.saved[-1].seen == 12
    rest, whole = Run(copy.deepcopy(run.saved[-1])), Run()
    for each in (rest, whole):
        each.trainer.run()
    assert same(rest.weights(), whole.weights())


def test_a_stage_that_has_ended_is_not_trained_again_but_summed_up() -> None:
    whole = Run()
    whole.trainer.run()
    again = Run(copy.deepcopy(whole.saved[-1]))
    summaries = again.trainer.run()
    assert [summary.trained for summary in summaries] == [("fc",), ("body", "fc")]
    assert again.steps == []
    assert same(again.weights(), whole.weights())
