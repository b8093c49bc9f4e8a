from __future__ import annotations

import pytest
from tiny_training import Listening

from toolkit.backbones import Backbone
from toolkit.backbones.frontier import NoFrontierError
from toolkit.errors import BackboneError, ImageSizeError
from toolkit.progress import Silent
from toolkit.recipe import Recipe, load_recipe
from toolkit.training.defaults import create_fitting


def asked(recipe: str, backbone: str, **given: object) -> Recipe:
    changes = {key.replace("__", "."): value for key, value in given.items()}
    return load_recipe(recipe).override({"backbone.name": backbone, "backbone.weights": "none", **changes})


def fit(recipe: Recipe) -> tuple[Recipe, Backbone, tuple[str, ...]]:
    return create_fitting(recipe, 3, Silent())


def test_what_fits_is_left_alone() -> None:
    recipe = asked("digits", "timm:test_efficientnet")
    fitted, backbone, adapted = fit(recipe)
    assert fitted == recipe
    assert backbone.image_size == 64
    assert adapted == ()


def test_a_default_of_more_blocks_than_there_are_is_capped_and_said() -> None:
    listening = Listening()
    fitted, backbone, adapted = create_fitting(
        asked("digits", "timm:test_vit").adapted({"stage2.unfreeze": 99}), 3, listening
    )
    assert fitted.stage2.unfreeze == len(backbone.blocks)
    (sentence,) = adapted
    assert sentence.startswith(f"stage2.unfreeze is {len(backbone.blocks)} (")
    assert "instead of the recipe's 99: timm:test_vit has" in sentence
    assert listening.lines == [f"adapted: {sentence}"]


def test_a_default_that_names_another_networks_block_is_the_last_one() -> None:
    fitted, backbone, adapted = fit(asked("textbook", "timm:test_efficientnet", backbone__image_size=32))
    assert fitted.stage2.unfreeze == 1
    (sentence,) = adapted
    assert sentence.startswith(f"stage2.unfreeze is 1 ({backbone.blocks[-1].name}) instead of the recipe's layer4:")


def test_a_default_image_size_becomes_the_next_one_that_works() -> None:
    fitted, backbone, adapted = fit(asked("digits", "timm:eva02_tiny_patch14_224"))
    assert backbone.image_size == fitted.backbone.image_size == 70
    assert adapted == ("image_size is 70 instead of the recipe's 64, which timm:eva02_tiny_patch14_224 cannot take",)
    assert fit(asked("digits", "inception_v3"))[0].backbone.image_size == 75


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("stage2__unfreeze", 99, BackboneError),
        ("stage2__unfreeze", ["layer4"], BackboneError),
        ("stage1__unfreeze", 99, BackboneError),
    ],
)
def test_what_a_person_gave_is_refused(field: str, value: object, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        fit(asked("digits", "timm:test_vit", **{field: value}))


def test_an_image_size_that_a_person_gave_is_refused() -> None:
    with pytest.raises(ImageSizeError, match="multiple of 14: 56 or 70 works"):
        fit(asked("digits", "timm:eva02_tiny_patch14_224", backbone__image_size=64))


def test_stochastic_depth_that_has_nothing_to_leave_out_is_refused() -> None:
    sentence = (
        r"there is no residual branch to leave out in what is trained of torchvision:squeezenet1_1 "
        r"\(.*classifier\.1\): leave --drop-path out\."
    )
    with pytest.raises(BackboneError, match=sentence):
        fit(asked("digits", "squeezenet1_1", train__drop_path=0.1))


def test_stochastic_depth_by_default_gives_way_and_is_said() -> None:
    recipe = asked("digits", "squeezenet1_1").adapted({"train.drop_path": 0.1})
    fitted, _, adapted = fit(recipe)
    assert fitted.train.drop_path == 0
    (sentence,) = adapted
    assert sentence.startswith("drop_path is 0: there is no residual branch to leave out in what is trained of")


def test_what_cannot_be_traced_is_said_to_have_no_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise NoFrontierError("its graph cannot be traced (why)")

    monkeypatch.setattr("toolkit.training.defaults.residual_branches", refused)
    with pytest.raises(BackboneError, match=r"^no residual branch can be found in timm:test_vit, its graph cannot be"):
        fit(asked("digits", "timm:test_vit", train__drop_path=0.1))


def test_rates_replace_those_that_the_network_brings() -> None:
    recipe = asked("digits", "efficientnet_b0", train__drop_path=0.1, train__dropout=0.0)
    fitted, backbone, adapted = fit(recipe)
    assert (fitted.train.drop_path, adapted) == (0.1, ())
    rates = {type(part).__name__: part.p for part in backbone.model.modules() if hasattr(part, "p")}
    assert rates == {"StochasticDepth": 0.0, "Dropout": 0.0}
    _, untouched, _ = fit(asked("digits", "efficientnet_b0"))
    assert {part.p for part in untouched.model.modules() if type(part).__name__ == "Dropout"} == {0.2}
