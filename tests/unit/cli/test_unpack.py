from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_a_packed_bundle_given_as_a_bundle_says_what_to_do(run: Run, colour_bundle: Path, here: Path) -> None:
    run("pack", colour_bundle)
    code, _, err = run("inspect", "colours.tar")
    assert code == 2
    assert "colours.tar is a file, a bundle is a folder. 'toolkit unpack' makes one" in err
