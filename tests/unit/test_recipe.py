from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.errors import RecipeError
from toolkit.recipe import Recipe, changes_of, load_recipe, parse_recipe, recipe_fields, shipped_recipes


@pytest.mark.parametrize("name", ["cifar10", "digits", "folder", "textbook"])
def test_shipped_recipes_are_valid_and_round_trip(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    recipe.save(tmp_path / "recipe.toml")
    assert load_recipe(str(tmp_path / "recipe.toml")) == recipe


def test_every_shipped_recipe_is_tested() -> None:
    assert set(shipped_recipes()) == {"cifar10", "digits", "folder", "textbook"}


def test_textbook_is_the_protocol_of_the_book() -> None:
    recipe = load_recipe("textbook")
    assert (recipe.data.source, recipe.backbone.name, recipe.backbone.weights, recipe.backbone.image_size) == (
        "cifar10",
        "torchvision:resnet18",
        "default",
        224,
    )
    assert (
        recipe.train.loss,
        recipe.train.label_smoothing,
        recipe.train.batch_size,
        recipe.augment.flip,
        recipe.augment.shift,
    ) == (
        "cross_entropy",
        0.0,
        100,
        False,
        0.0,
    )
    for stage in (recipe.stage1, recipe.stage2):
        assert (stage.epochs, stage.optimizer, stage.momentum, stage.head_lr, stage.schedule, stage.weight_decay) == (
            10,
            "sgd",
            0.9,
            0.001,
            "constant",
            0.0,
        )
    assert recipe.stage1.unfreeze == 0
    assert recipe.stage2.unfreeze == ("layer4",)
    assert recipe.stage2.backbone_lr == 0.0001


@pytest.mark.parametrize("field", ["stage1.head_lr", "stage2.weight_decay", "train.checkpoint_minutes"])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_numbers_are_finite(field: str, value: str) -> None:
    with pytest.raises(RecipeError, match=field):
        load_recipe("digits").override({field: value})


def test_all_bad_fields_are_named_at_once() -> None:
    text = """
    [stage1]
    epochs = -1
    head_lr = "fast"
    [data]
    resize = "stretch"
    colour = true
    [train]
    loss = "mse"
    label_smoothing = 0.1
    """
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "my.toml")
    message = str(caught.value)
    assert "my.toml" in message
    for field in (
        "stage1.epochs",
        "stage1.head_lr",
        "data.resize",
        "data.colour: no such field",
        "train: label_smoothing applies",
    ):
        assert field in message


def test_an_unknown_field_names_the_ones_there_are() -> None:
    with pytest.raises(RecipeError, match=r"backbone.weight: no such field; fields here are image_size, name, weights"):
        Recipe().override({"backbone.weight": "none"})


def test_a_flag_gives_text_and_the_recipe_makes_it_a_value() -> None:
    recipe = Recipe().override(
        {
            "stage1.epochs": "3",
            "stage2.head_lr": "0.5",
            "export.formats": "onnx, torchscript",
            "backbone.image_size": "96",
        }
    )
    assert recipe.stage1.epochs == 3
    assert recipe.stage2.head_lr == 0.5
    assert recipe.export.formats == ("onnx", "torchscript")
    assert recipe.backbone.image_size == 96


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2), ("layer4", ("layer4",)), ("layer3, layer4.1", ("layer3", "layer4.1"))]
)
def test_unfreeze_is_a_count_or_names(text: str, value: object) -> None:
    assert Recipe().override({"stage2.unfreeze": text}).stage2.unfreeze == value


def test_a_negative_count_of_blocks_is_refused() -> None:
    with pytest.raises(RecipeError, match="stage2: unfreeze must be 0 or more"):
        Recipe().override({"stage2.unfreeze": "-1"})


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(RecipeError, match="nothing would be trained"):
        Recipe().override({"stage1.epochs": 0, "stage2.epochs": 0})


def test_an_unknown_recipe_names_the_ones_there_are() -> None:
    with pytest.raises(
        RecipeError, match="no recipe 'digit': give one of auto, cifar10, digits, folder, textbook, or the path"
    ):
        load_recipe("digit")


def test_a_file_that_is_not_toml_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("[data\n")
    with pytest.raises(RecipeError, match=r"broken.toml is not valid TOML"):
        load_recipe(str(tmp_path / "broken.toml"))


def test_a_file_that_is_not_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "picture.toml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*picture.toml"):
        load_recipe(str(tmp_path / "picture.toml"))


def test_a_path_that_is_not_utf8_cannot_stand_in_a_recipe() -> None:
    with pytest.raises(RecipeError, match=r"data\.source: 'caf.*' is not UTF-8, and a recipe is: rename it"):
        load_recipe("folder").override({"data.source": "caf\udce9"})


def test_a_recipe_that_speaks_to_the_terminal_is_refused() -> None:
    for text in ('name = "a\\u001b[2J"', 'name = "a\u202eb"', '"\\u009b" = 1', 'x = [["a", {y = "\\u007f"}]]'):
        with pytest.raises(RecipeError, match=r"^r\.toml holds the character U\+[0-9A-F]{4}, which could change what"):
            parse_recipe(text, "r.toml")


def test_what_a_person_gave_is_told_from_what_is_a_default(tmp_path: Path) -> None:
    shipped = load_recipe("digits")
    assert not any(shipped.is_given(field) for field in ("stage2.unfreeze", "backbone.image_size", "name"))
    flagged = shipped.override({"stage2.unfreeze": 3})
    assert flagged.is_given("stage2.unfreeze")
    assert not flagged.is_given("backbone.image_size")
    assert flagged.override({"seed": 1}).is_given("stage2.unfreeze")
    assert flagged == shipped, "who said it makes no difference to what is said"
    shipped.save(tmp_path / "mine.toml")
    assert load_recipe(str(tmp_path / "mine.toml")).is_given("stage2.unfreeze")
    made = Recipe.model_validate({"stage2": {"unfreeze": 1}})
    assert made.is_given("stage2.unfreeze")
    assert not made.is_given("stage1.unfreeze")
    assert not Recipe().is_given("stage2.unfreeze")


def test_an_adapted_field_is_still_a_default() -> None:
    adapted = load_recipe("digits").override({"seed": 1}).adapted({"stage2.unfreeze": 2})
    assert adapted.stage2.unfreeze == 2
    assert adapted.is_given("seed")
    assert not adapted.is_given("stage2.unfreeze")


def test_every_field_has_one_name_for_flags_and_for_python() -> None:
    named = {name: dotted for dotted, name, _ in recipe_fields()}
    assert len(named) == len(list(recipe_fields()))
    assert all(name.isidentifier() for name in named)
    assert (named["data"], named["backbone"], named["stage2_head_lr"]) == (
        "data.source",
        "backbone.name",
        "stage2.head_lr",
    )
    assert {"name", "description"}.isdisjoint(named)


def test_what_is_given_by_names_becomes_changes() -> None:
    assert changes_of({"data": "photos", "stage1_epochs": 2, "image_size": None}, "a test") == {
        "data.source": "photos",
        "stage1.epochs": 2,
        "backbone.image_size": None,
    }


def test_unknown_names_and_bad_values_are_said_together() -> None:
    with pytest.raises(RecipeError) as refused:
        changes_of({"lr": 0.1, "stage1_epochs": -1}, "a test")
    first, *problems, fields = str(refused.value).splitlines()
    assert first == "2 fields of the recipe from a test cannot be used:"
    assert problems[0].startswith("  lr: no such field (did you mean stage1_head_lr or ")
    assert problems[1] == "  stage1_epochs: Input should be greater than or equal to 0 (given: -1)"
    assert fields.startswith("Fields are ")


def test_what_lifts_accuracy_is_off_unless_it_is_asked_for() -> None:
    recipe = Recipe()
    assert (recipe.augment.cutmix, recipe.train.ema, recipe.train.average_last, recipe.train.patience) == (0, 0, 0, 0)
    assert (recipe.augment.crop, recipe.augment.randaugment, recipe.augment.erase) == (0, 0, 0)
    assert not recipe.augment.changes_images
    assert recipe.cache.refresh == 0
    assert (recipe.stage1.layer_decay, recipe.stage2.layer_decay, recipe.distill.teacher) == (1.0, 1.0, None)
    assert (recipe.train.drop_path, recipe.train.dropout, recipe.train.sam_rho) == (None, None, 0)
    assert (recipe.train.bn_reestimate, recipe.model.flip_test) == (0, False)


def test_a_third_stage_is_there_for_those_who_ask_for_it() -> None:
    assert [number for number, _ in Recipe().stages] == [1, 2]
    deeper = Recipe().override({"stage3.epochs": 2, "stage3.unfreeze": 4})
    assert [(number, stage.unfreeze) for number, stage in deeper.stages] == [(1, 0), (2, 1), (3, 4)]
    alone = Recipe().override({"stage2.epochs": 0, "stage2.unfreeze": 3, "stage3.epochs": 2, "stage3.unfreeze": 2})
    assert [number for number, _ in alone.stages] == [1, 3]  # a stage that is left out is compared with nothing
    named = Recipe().override({"stage3.epochs": 2, "stage3.unfreeze": "layer3, layer4"})
    assert named.stages[-1][1].unfreeze == ("layer3", "layer4")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.ema": 0.9, "train.average_last": 2}, "train: ema and average_last are two averages of the same"),
        ({"train.patience": 1, "train.average_last": 2}, "train: average_last counts from the last epoch"),
        ({"train.ema": 1.0}, r"train\.ema"),
        ({"stage3.epochs": 2}, r"stage3\.unfreeze is 0 and stage2\.unfreeze is 1: a third stage is for more blocks"),
        ({"train.bn_reestimate": 4}, "train: bn_reestimate is for BatchNorm layers that train_bn trains"),
        ({"train.drop_path": 1.0, "train.dropout": -0.1}, r"train\.drop_path.*\n.*train\.dropout"),
        ({"distill.teacher": "t", "cache.use": False}, "a teacher's answers are kept beside the activations"),
        ({"cache.refresh": 0.5, "cache.use": False}, "without a cache every view is new: leave --no-cache or"),
        ({"cache.refresh": 1.5}, r"cache.refresh"),
        ({"augment.crop": 1.0}, r"augment.crop"),
        ({"augment.magnitude": 31}, r"augment.magnitude"),
        ({"augment.erase_area": 0.01}, r"augment.erase_area"),
    ],
)
def test_means_that_exclude_each_other_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe().override(changes)


def test_a_recipe_that_leaves_the_machine_names_its_teacher_alone() -> None:
    recipe = Recipe().override({"distill.teacher": "/home/somebody/artifacts/large"})
    assert recipe.without_folders().distill.teacher == "large"
    assert Recipe().without_folders().distill.teacher is None


def test_the_head_is_solved_where_images_are_few_in_the_recipe_for_folders_alone() -> None:
    solvers = {name: load_recipe(name).stage1.solver for name in shipped_recipes()}
    assert solvers == {"cifar10": "steps", "digits": "steps", "folder": "auto", "textbook": "steps"}
    assert Recipe().stage1.solver == "steps"
    assert not hasattr(Recipe().stage2, "solver")


@pytest.mark.parametrize(
    ("changes", "what_to_do"),
    [
        ({"stage1.epochs": 0}, r"give stage1\.epochs 1 or more or take the solver steps"),
        ({"train.loss": "mse"}, "loss mse is another problem, take the solver steps"),
        ({"distill.teacher": "large"}, "leave the teacher out or take the solver steps"),
        ({"stage1.unfreeze": 1}, r"leave stage1\.unfreeze at 0, or take the solver steps"),
        ({"stage1.unfreeze": ["layer4"]}, r"leave stage1\.unfreeze at 0"),
        ({"cache.refresh": 0.5, "stage2.epochs": 0}, "no epochs to draw new views for, leave --refresh-views out or"),
    ],
)
def test_what_is_no_logistic_regression_cannot_be_solved(changes: dict[str, object], what_to_do: str) -> None:
    refused = f"stage1.solver lbfgs is logistic regression over frozen features: .*{what_to_do}"
    with pytest.raises(RecipeError, match=refused):
        Recipe().override({"stage1.solver": "lbfgs", **changes})
    assert Recipe().override({"stage1.solver": "auto", **changes}).obstacle_to_solving is not None
    assert Recipe().obstacle_to_solving is None
    assert Recipe().override({"cache.refresh": 0.5}).obstacle_to_solving is None
