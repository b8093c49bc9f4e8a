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
