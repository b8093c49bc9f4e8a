from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.bundle import Bundle
from toolkit.files import sha256_file

Run = Callable[..., tuple[int, str, str]]
pytest.importorskip("fsspec", reason="the extra 'remote' is not installed")


@pytest.fixture
def pushed(run: Run, colour_bundle: Path, here: Path) -> Path:
    assert run("push", colour_bundle, "models/")[0] == 0
    return here / "models" / "colours.tar"


def test_it_says_what_it_is(run: Run, pushed: Path, here: Path) -> None:
    code, out, err = run("pull", "models/", "there", "--sha256", sha256_file(pushed))
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "bundle there"
    assert out.splitlines()[1].startswith("  colours: 3 classes, onnx; made 20")
    assert Bundle.open(here / "there").manifest.name == "colours"


def test_a_key_must_have_signed_it(run: Run, colour_bundle: Path, key: Path) -> None:
    assert run("push", colour_bundle, "plain.tar")[0] == 0
    code, out, err = run("pull", "plain.tar", "there", "--verify-key", key)
    assert (code, out) == (2, "")
    assert err.startswith("toolkit: plain.tar is not signed")
    assert run("sign", colour_bundle, "--key", "ours.private.pem")[0] == 0
    assert run("push", colour_bundle, "signed.tar")[0] == 0
    assert run("pull", "signed.tar", "there", "--verify-key", key)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("models", "--sha256", "0" * 64), "colours.tar has the SHA-256"),
        (("models", "--sha256", "abc"), "'abc' is no SHA-256"),
        (("models", "--max-bytes", "100"), "colours.tar has more than 100 bytes, which is the limit"),
        (("nowhere.tar",), "nowhere.tar cannot be read: there is no such file or folder."),
    ],
)
def test_bad_input_is_one_sentence_and_makes_nothing(
    run: Run, pushed: Path, here: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    code, out, err = run("pull", *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert [path.name for path in here.iterdir()] == ["models"]
