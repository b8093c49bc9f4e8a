from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.bundle import Bundle

Run = Callable[..., tuple[int, str, str]]


def test_it_is_printed(run: Run, colour_bundle: Path) -> None:
    assert run("card", colour_bundle)[:2] == (0, (colour_bundle / "MODEL_CARD.md").read_text(encoding="utf-8"))


def test_the_intended_use_is_the_users_own_text(run: Run, colour_bundle: Path, here: Path) -> None:
    (here / "use.md").write_text("Sorting of *tiles* by colour. Nothing else.\n", encoding="utf-8")
    code, _, err = run("card", colour_bundle, "--intended-use", "use.md")
    assert (code, err) == (0, "")
    assert Bundle.open(colour_bundle).manifest.intended_use == "Sorting of *tiles* by colour. Nothing else."
    card = (colour_bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "## Intended use\n\nSorting of *tiles* by colour. Nothing else.\n\n## How to load it" in card
    assert "Not written yet" not in card


def test_a_signature_that_goes_is_told_of(run: Run, colour_bundle: Path, key: Path) -> None:
    Path("use.md").write_text("Tiles.")
    run("sign", colour_bundle, "--key", "ours.private.pem")
    code, _, err = run("card", colour_bundle, "--intended-use", "use.md")
    assert code == 0
    assert "is no longer signed, because its manifest has changed" in err


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"\xff", "cannot be read as UTF-8"), (b" \n", "has 0 characters")],
)
def test_a_text_that_is_none(run: Run, colour_bundle: Path, here: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (here / "use.md").write_bytes(content)
    code, out, err = run("card", colour_bundle, "--intended-use", "use.md")
    assert (code, out) == (2, "")
    assert said in err
