from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.errors import ExportError
from toolkit.plugins import Kind, with_plugins

THING = Kind(name="thing", protocol="toolkit.things.Thing", required=("name", "shine"), error=ExportError)


class Mine:
    name = "mine"

    def shine(self) -> None: ...


class Theirs(Mine):
    name = "theirs"


def entry(load: Any, distribution: str | None = "their-package") -> Any:
    dist = SimpleNamespace(name=distribution) if distribution else None
    return SimpleNamespace(name="extra", dist=dist, value="theirs:Plugin", load=load)


def test_the_packages_own_come_first() -> None:
    known = with_plugins([Mine()], [entry(lambda: Theirs)], THING)
    assert list(known) == ["mine", "theirs"]
    assert isinstance(known["theirs"], Theirs)


def broken() -> None:
    raise ImportError("no module named engine")


@pytest.mark.parametrize(("distribution", "origin"), [("their-package", "their-package"), (None, "theirs:Plugin")])
def test_what_cannot_be_loaded_names_its_package(distribution: str | None, origin: str) -> None:
    sentence = rf"the thing 'extra' of {origin} cannot be loaded \(ImportError\('no module named engine'\)\): update or"
    with pytest.raises(ExportError, match=sentence):
        with_plugins([Mine()], [entry(broken, distribution)], THING)


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ExportError, match="their-package adds a thing named 'mine', which exists already: uninstall"):
        with_plugins([Mine()], [entry(lambda: Mine)], THING)
    with pytest.raises(ExportError, match="a thing named 'theirs', which exists already"):
        with_plugins([], [entry(lambda: Theirs), entry(lambda: Theirs)], THING)


class Dull:
    name = "dull"


def test_what_a_plugin_lacks_is_named_with_the_place_to_read_about_it() -> None:
    sentence = "the thing 'extra' of their-package lacks shine, see toolkit.things.Thing: update or uninstall"
    with pytest.raises(ExportError, match=sentence):
        with_plugins([Mine()], [entry(lambda: Dull)], THING)
