from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import toolkit
from toolkit.data import Dataset, load_dataset, registry
from toolkit.data.dataset import split_of_arrays
from toolkit.errors import DataError
from toolkit.recipe import DEFAULT_SOURCE, DataRecipe, Recipe, load_recipe, shipped_recipes


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    registry.sources.cache_clear()
    yield
    registry.sources.cache_clear()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what lets another package add sources."""

    def install(*classes: Any) -> None:
        points = [
            SimpleNamespace(
                name=getattr(kind, "name", "extra"),
                dist=SimpleNamespace(name="their-package"),
                value="theirs:Source",
                load=lambda kind=kind: kind,
            )
            for kind in classes
        ]
        monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "toolkit.data" else [])

    return install


class Listed:
    """A source that takes the path of a list."""

    name = "list"
    title = "a list"
    accepts = "the path of a .lst file"
    reads_path = True
    downloads = False

    def recognises(self, source: str) -> bool:
        return source.endswith(".lst")

    def unavailable(self, recipe: DataRecipe, *, network: bool = True) -> str | None:
        return None

    def load(self, recipe: DataRecipe, seed: int, splits: Sequence[str], reporter: object) -> Dataset:
        pixels, targets = np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1])
        return Dataset(
            recipe.source,
            ("a", "b"),
            {name: split_of_arrays(name, pixels, targets, ("0", "1"), ("a", "b")) for name in splits},
        )


def test_the_packages_own_sources() -> None:
    assert list(registry.sources()) == ["cifar10", "digits", "csv", "folder"]
    for text, name in (
        ("cifar10", "cifar10"),
        ("digits", "digits"),
        ("photos", "folder"),
        ("CIFAR10", "folder"),
        ("a/labels.CSV", "csv"),
    ):
        assert registry.find_source(text).name == name
    assert registry.accepted() == (
        "'cifar10', 'digits', the path of a .csv or .tsv file of paths and classes, or the path of a folder of images"
    )


def test_a_source_of_another_package_takes_what_it_recognises(install: Callable[..., None], tmp_path: Path) -> None:
    install(Listed)
    assert isinstance(registry.find_source("mine.lst"), Listed)
    assert registry.find_source("mine").name == "folder"
    (tmp_path / "mine.lst").touch()
    recipe = DataRecipe.model_validate({"source": str(tmp_path / "mine.lst")})
    data = load_dataset(recipe, 0, splits=("test",))
    assert (data.source, list(data.splits)) == (recipe.source, ["test"])


def test_an_unknown_source_is_told_all_that_are_valid(install: Callable[..., None]) -> None:
    install(Listed)
    for text in ("nowhere", "nowhere.lst"):
        with pytest.raises(DataError, match="no data source 'nowhere") as caught:
            load_dataset(DataRecipe.model_validate({"source": text}), 0)
        assert (
            "give 'cifar10', 'digits', the path of a .csv or .tsv file of paths and classes, the path of a .lst file, "
            "or the path of a folder of images (there is none at that path)." in str(caught.value)
        )


def test_two_sources_that_take_the_same_are_refused(install: Callable[..., None]) -> None:
    class Greedy(Listed):
        name = "greedy"

        def recognises(self, source: str) -> bool:
            return True

    install(Listed, Greedy)
    for text, names in (("a.lst", "list and greedy"), ("digits", "digits and greedy")):
        with pytest.raises(DataError, match=f"{text!r} is taken by the data sources {names} alike: uninstall"):
            registry.find_source(text)


def test_a_source_that_cannot_be_loaded_names_its_package(install: Callable[..., None]) -> None:
    def extra() -> None:
        raise RuntimeError("no licence")

    install(extra)
    with pytest.raises(DataError, match=r"the data source 'extra' of their-package cannot be loaded .*no licence"):
        registry.find_source("digits")


def test_a_name_that_is_taken_is_refused(install: Callable[..., None]) -> None:
    class Digits(Listed):
        name = "digits"

    install(Digits)
    with pytest.raises(DataError, match="their-package adds a data source named 'digits', which exists already"):
        registry.sources()


def test_what_a_run_is_named_after(install: Callable[..., None]) -> None:
    install(Listed)
    assert registry.plain_name("digits") == "digits"
    assert registry.plain_name("/data/photos") == "photos"
    assert registry.plain_name("/data/mine.lst") == "mine.lst"


def test_every_shipped_recipe_and_the_default_name_a_source() -> None:
    assert Recipe().data.source == DEFAULT_SOURCE
    named = {load_recipe(name).data.source for name in shipped_recipes()} | {DEFAULT_SOURCE}
    assert {registry.find_source(source).name for source in named - {"."}} == {"cifar10", "digits"}
    assert registry.find_source(DEFAULT_SOURCE).unavailable(Recipe().data, network=False) is None


def test_no_file_but_its_own_names_a_source() -> None:
    package = Path(toolkit.__file__).parent
    literal = re.compile(r"""["'](cifar10|digits)["']""")
    naming = {
        path.relative_to(package).as_posix(): sorted(set(literal.findall(path.read_text(encoding="utf-8"))))
        for path in package.rglob("*.py")
        if literal.search(path.read_text(encoding="utf-8"))
    }
    # recipe.py: the default of a recipe that names no source, and which shipped recipes `auto` chooses among.
    assert naming == {
        "data/cifar10.py": ["cifar10"],
        "data/digits.py": ["digits"],
        "recipe.py": ["cifar10", "digits"],
    }


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (
            "\x1b[2Jcat",
            r"the class '\\x1b\[2Jcat' holds the character U\+001B, which could change what a terminal shows",
        ),
        ("c\u202eta", r"holds the character U\+202E"),
        ("a\nb", r"holds the character U\+000A"),
        ("dog", "of the classes the label 'dog' stands there twice"),
        (" ", "of the classes the label ' ' is blank"),
        ("x" * 1001, r"has a name of 1001 characters: give it one of at most 1000"),
    ],
)
def test_a_class_whose_name_cannot_be_shown_is_refused(monkeypatch: pytest.MonkeyPatch, label: str, said: str) -> None:
    source = SimpleNamespace(reads_path=False, load=lambda *_: SimpleNamespace(labels=("dog", label)))
    monkeypatch.setattr("toolkit.data.require_source", lambda recipe: source)
    with pytest.raises(DataError, match=said):
        load_dataset(DataRecipe(source="made"), 0)
