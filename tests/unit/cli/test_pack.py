from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from toolkit.bundle import Bundle
from toolkit.files import sha256_file

Run = Callable[..., tuple[int, str, str]]


def test_there_and_back(run: Run, colour_bundle: Path, here: Path) -> None:
    code, out, _ = run("pack", colour_bundle)
    assert code == 0
    packed, last = out.splitlines()
    assert packed == f"colours.tar  0.0 MB  SHA-256 {sha256_file(here / 'colours.tar')}"
    assert last == "wrote colours.tar; next: toolkit unpack colours.tar"
    assert run("unpack", "colours.tar")[:2] == (0, "wrote colours; next: toolkit selftest colours\n")
    assert Bundle.open(here / "colours").manifest == Bundle.open(colour_bundle).manifest
    code, out, err = run("unpack", "colours.tar")
    assert (code, out) == (2, "")
    assert "colours exists already: choose another folder with -o" in err
    assert run("unpack", "colours.tar", "-o", "again")[0] == 0


def test_pack_signs_if_it_is_asked_to(run: Run, colour_bundle: Path, key: Path) -> None:
    code, _, _ = run("pack", colour_bundle, "--sign", "ours.private.pem", "-o", "signed.tar")
    assert code == 0
    assert run("unpack", "signed.tar", "--verify-key", key)[0] == 0
    assert Bundle.open("signed", key).signature is not None
