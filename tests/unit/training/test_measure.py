from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from tiny_training import tiny_recipe, tiny_setting

from toolkit.training import measure as module
from toolkit.training.measure import counts_of, make_plan, measure
from toolkit.training.plan import Counts, rate
from toolkit.training.setting import Setting
from toolkit.training.step import StepResult
from toolkit.training.training_data import TrainingData

pytestmark = pytest.mark.usefixtures("in_torch", "own_cache")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for a moment only: the figures are not looked at."""
    monkeypatch.setattr(module, "rate", lambda run: rate(run, least=0.001))


@pytest.fixture
def setting() -> Setting:
    return tiny_setting(tiny_recipe(cache__use=True, train__train_bn=True, augment__mixup=0.3))


def test_every_stage_is_measured_and_nothing_is_changed(setting: Setting) -> None:
    model = setting.backbone.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with TrainingData(setting) as data:
        rates = measure(setting, data)
        assert data.divided is not None
        elements = sum(tensor.elements for tensor in data.divided.division.tensors)
    assert set(rates.train) == {1, 2}
    assert rates.prefix is not None
    assert min(rates.prefix, rates.infer, rates.checkpoint, *rates.train.values()) > 0
    assert rates.image_size == 8
    assert rates.row_bytes == 4 * elements
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_scale_of_gradients_is_what_it_was(setting: Setting) -> None:
    """Or a run that was measured first would not be the one that goes on from its recipe without."""
    # As float16 has it on CUDA, and so eager that any step moves it.
    setting.precision._scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
    with TrainingData(setting) as data:
        measure(setting, data)
    assert setting.precision.state()["scale"] == 8.0
    assert setting.precision.state()["_growth_tracker"] == 0


def test_the_step_that_is_measured_is_the_one_that_is_trained(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[float] = []
    step = module.training_step

    def counted(learner: object, *rest: object) -> object:
        assert learner.augment.mixup == 0.3  # type: ignore[attr-defined]
        steps.append(learner.optimizer.param_groups[0]["lr"])  # type: ignore[attr-defined]
        return step(learner, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "training_step", counted)
    with TrainingData(setting) as data:
        measure(setting, data)
    assert len(steps) >= 4


def test_the_measurement_waits_for_every_step(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA a step only queues its kernels, and whoever does not look at its loss measures the queueing."""
    steps: list[bool] = []

    class Loss:
        def item(self) -> float:
            steps[-1] = True
            return 0.0

    def step(*_: object) -> StepResult:
        steps.append(False)
        return StepResult(cast(torch.Tensor, Loss()), torch.zeros(()))

    monkeypatch.setattr(module, "training_step", step)
    with TrainingData(setting) as data:
        measure(setting, data)
    assert steps
    assert all(steps)


def test_a_plan_knows_what_is_kept_already(setting: Setting) -> None:
    with TrainingData(setting) as data:
        rates = measure(setting, data)
        assert make_plan(setting, data, rates).prefix > 0
        data.batches(1)
        assert make_plan(setting, data, rates).prefix == 0


def test_without_a_cache_there_is_no_frozen_part_to_measure() -> None:
    setting = tiny_setting(tiny_recipe(cache__use=False, stage1__epochs=0))
    with TrainingData(setting) as data:
        rates = measure(setting, data)
        assert (rates.prefix, rates.row_bytes, set(rates.train)) == (None, 0, {2})
        assert counts_of(setting, data) == Counts(18, 6, 4)


def test_the_tests_folder_is_not_written_to(setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with TrainingData(setting) as data:
        measure(setting, data)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_it_is_counted_what_is_solved_and_tried() -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True, stage1__solver="lbfgs"))
    with TrainingData(setting) as data:
        assert counts_of(setting, data) == Counts(18, 6, 4, numbers_to_solve=18 * 2, cross_validated=True)
    setting = tiny_setting(tiny_recipe(cache__use=True, stage1__solver="lbfgs", train__keep="best"))
    with TrainingData(setting) as data:
        assert counts_of(setting, data) == Counts(18, 6, 4, numbers_to_solve=18 * 2)
    other = {"stage3__epochs": 1, "stage3__unfreeze": ["stem.1"]}
    setting = tiny_setting(tiny_recipe(cache__use=True, stage1__solver="lbfgs", **other))
    with TrainingData(setting) as data:
        assert counts_of(setting, data) == Counts(18, 6, 4, numbers_to_solve=18 * 2)


def test_what_new_views_take_is_measured_for_what_the_last_stage_needs() -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True, cache__refresh=0.5, augment__shift=0.2))
    with TrainingData(setting) as data:
        rates = measure(setting, data)
        assert data.divided is not None
        elements = sum(tensor.elements for tensor in data.divided.cut(2).tensors)
        plan = make_plan(setting, data, rates)
    assert rates.new_views is not None
    assert rates.new_views > 0
    assert rates.new_row_bytes == 4 * elements < rates.row_bytes
    assert plan.new_views == pytest.approx(2 * 9 / rates.new_views)
    assert plan.disk_bytes == (18 * 4 + 6) * rates.row_bytes + 9 * rates.new_row_bytes


def test_where_none_are_drawn_there_is_nothing_to_measure(setting: Setting) -> None:
    with TrainingData(setting) as data:
        rates = measure(setting, data)
    assert (rates.new_views, rates.new_row_bytes) == (None, 0)
