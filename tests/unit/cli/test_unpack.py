from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from toolkit.bundle import Bundle

Run = Callable[..., tuple[int, str, str]]


def test_a_packed_bundle_given_as_a_bundle_says_what_to_do(run: Run, colour_bundle: Path, here: Path) -> None:
    run("pack", colour_bundle)
    code, _, err = run("inspect", "colours.tar")
    assert code == 2
    assert "colours.tar is a file, a bundle is a folder. 'toolkit unpack' makes one" in err


def test_a_folder_is_made_where_it_is_asked_for(run: Run, colour_bundle: Path, here: Path) -> None:
    run("pack", colour_bundle, "-o", "model.tar")
    assert run("unpack", "model.tar", "-o", "there") == (
        0,
        "wrote there; next: toolkit selftest there\n",
        "",
    )
    assert Bundle.open(here / "there").manifest == Bundle.open(colour_bundle).manifest


def test_a_damaged_archive_makes_no_folder(run: Run, colour_bundle: Path, here: Path) -> None:
    run("pack", colour_bundle, "-o", "model.tar")
    packed = (here / "model.tar").read_bytes()
    (here / "model.tar").write_bytes(packed.replace(b'"colours"', b'"colourz"', 1)[:-4096])
    code, out, err = run("unpack", "model.tar", "-o", "there")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert [path.name for path in here.iterdir()] == ["model.tar"]
