from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_sign_names_the_key_and_inspect_tells_what_was_checked(run: Run, colour_bundle: Path, key: Path) -> None:
    assert "signature      none" in run("inspect", colour_bundle)[1]
    code, out, _ = run("sign", colour_bundle, "--key", "ours.private.pem")
    assert code == 0
    fingerprint = out.split()[-1]
    assert f"by the key {fingerprint}, not checked: give that key with --verify-key" in run("inspect", colour_bundle)[1]
    assert f"valid, by the key {fingerprint} of {key}" in run("inspect", colour_bundle, "--verify-key", key)[1]


def test_a_key_that_is_none_leaves_the_bundle_unsigned(run: Run, colour_bundle: Path, here: Path) -> None:
    (here / "no.pem").write_text("no key")
    code, out, err = run("sign", colour_bundle, "--key", "no.pem")
    assert (code, out) == (2, "")
    assert "no.pem is not a private key in PEM" in err
    assert not (colour_bundle / "manifest.json.sig").exists()
