"""--verify-key on the commands that open a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("command", ["predict", "inspect", "selftest", "unpack"])
@pytest.mark.parametrize("case", ["signed", "unsigned", "another key", "edited"])
def test_every_command_that_opens_a_bundle_checks_the_key(
    run: Run,
    colour_bundle: Path,
    colour_image: Callable[[str], np.ndarray],
    key: Path,
    command: str,
    case: str,
) -> None:
    Image.fromarray(colour_image("red")).save("photo.png")
    if case != "unsigned":
        run("sign", colour_bundle, "--key", "ours.private.pem")
    if command == "unpack":
        run("pack", colour_bundle, "-o", "it.tar")
    if case == "edited":
        damaged = Path("it.tar") if command == "unpack" else colour_bundle / "manifest.json"
        damaged.write_bytes(damaged.read_bytes().replace(b'"colours"', b'"colourz"', 1))
    if case == "another key":
        run("keygen", "theirs")
        key = key.with_name("theirs.public.pem")
    given = {"predict": [colour_bundle, "photo.png"], "unpack": ["it.tar", "-o", "there"]}.get(command, [colour_bundle])
    code, out, err = run(command, *given, "--verify-key", key)
    said = {
        "unsigned": "is not signed",
        "another key": "is signed by the key",
        "edited": "was changed after it was signed",
    }
    if case == "signed":
        assert code == 0, err
    else:
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert said[case] in err
