from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from toolkit.data import cifar10
from toolkit.errors import RecipeError
from toolkit.training import auto


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Say what is on disk and which hosts answer; everything can be had unless a test changes it."""
    state: dict[str, Any] = {"on_disk": False, "data": None, "weights": None}
    monkeypatch.setattr(cifar10, "is_on_disk", lambda root: state["on_disk"])
    monkeypatch.setattr(cifar10, "probe", lambda url, timeout: state["data"])
    monkeypatch.setattr("toolkit.backbones.weights_available", lambda name: state["weights"])
    return state


def test_cifar10_where_it_can_be_had(world: dict[str, Any]) -> None:
    recipe, line = auto.choose_recipe("auto", {})
    assert (recipe.name, recipe.data.source, recipe.backbone.name) == ("cifar10", "cifar10", "torchvision:resnet18")
    assert line is not None
    assert "'cifar10' recipe" in line


@pytest.mark.parametrize("missing", ["data", "weights"])
def test_digits_otherwise_said_loudly_with_the_reason(world: dict[str, Any], missing: str) -> None:
    world[missing] = "the host does not answer"
    recipe, line = auto.choose_recipe("auto", {"seed": "3"})
    assert (recipe.name, recipe.data.source, recipe.seed) == ("digits", "digits", 3)
    assert line is not None
    assert "USING THE EMBEDDED 'digits' RECIPE, NOT CIFAR-10" in line
    assert "the host does not answer" in line
    assert "\n" not in line


def test_both_reasons_are_named(world: dict[str, Any]) -> None:
    world["data"] = "name resolution failed"
    world["weights"] = "HTTP 403"
    _, line = auto.choose_recipe("auto", {})
    assert line is not None
    assert "name resolution failed" in line
    assert "HTTP 403" in line


def test_data_on_disk_needs_no_host(world: dict[str, Any]) -> None:
    world.update(on_disk=True, data="the host does not answer")
    assert auto.choose_recipe("auto", {})[0].name == "cifar10"


def test_random_weights_need_no_host(world: dict[str, Any]) -> None:
    world["weights"] = "the host does not answer"
    assert auto.choose_recipe("auto", {"backbone.weights": "none"})[0].name == "cifar10"


def test_both_hosts_are_asked_at_once(world: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=60)
    together: list[int] = []

    def hanging(*_: object) -> str:
        both.wait()  # breaks unless the other host is asked before this one has answered
        together.append(2)
        return "no answer"

    monkeypatch.setattr(cifar10, "probe", hanging)
    monkeypatch.setattr("toolkit.backbones.weights_available", hanging)
    auto.choose_recipe("auto", {})
    assert together == [2, 2]


def test_named_data_decides_without_asking(
    world: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cifar10, "probe", lambda *_: pytest.fail("asked a host"))
    monkeypatch.chdir(tmp_path)
    assert auto.choose_recipe("auto", {"data.source": "digits"})[0].name == "digits"
    assert auto.choose_recipe("auto", {"data.source": "cifar10"})[0].name == "cifar10"
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    recipe, line = auto.choose_recipe("auto", {"data.source": "photos"})
    assert (recipe.name, recipe.data.source) == ("folder", str(tmp_path / "photos"))
    assert line == "using the 'folder' recipe for photos"


def test_a_named_recipe_is_taken_as_it_is(world: dict[str, Any]) -> None:
    recipe, line = auto.choose_recipe("textbook", {"stage1.epochs": "2"})
    assert (recipe.name, recipe.stage1.epochs, line) == ("textbook", 2, None)
    with pytest.raises(RecipeError, match="no recipe 'text'"):
        auto.choose_recipe("text", {})


def test_whoever_says_something_of_the_steps_of_stage_1_wants_steps() -> None:
    def solver(**given: Any) -> str:
        overrides = {"data.source": "digits", **{name.replace("__", "."): value for name, value in given.items()}}
        return auto.choose_recipe("folder", overrides)[0].stage1.solver

    assert solver() == "auto"
    assert solver(stage2__epochs="9", train__batch_size="16") == "auto"
    assert solver(stage1__epochs="3") == "steps"
    assert solver(stage1__head_lr="0.01") == "steps"
    assert solver(stage1__epochs="3", stage1__solver="auto") == "auto"
    assert solver(stage1__epochs="3", stage1__solver="lbfgs") == "lbfgs"


def test_new_views_of_images_that_nothing_changes_are_refused(world: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"^--refresh-views draws new views, and this recipe changes no image: "):
        auto.choose_recipe("digits", {"cache.refresh": 0.5})
    assert auto.choose_recipe("digits", {"cache.refresh": 0.5, "augment.crop": 0.5})[0].cache.refresh == 0.5
