from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


def test_keys_are_never_overwritten(run: Run, key: Path) -> None:
    code, _, err = run("keygen", "ours")
    assert code == 2
    assert "ours.private.pem exists already, and keys are never overwritten" in err


def test_the_secret_half_is_for_its_owner_only(run: Run, key: Path) -> None:
    private = key.with_name("ours.private.pem")
    assert private.stat().st_mode & 0o077 == 0
    assert b"PRIVATE KEY" in private.read_bytes()
    assert b"PUBLIC KEY" in key.read_bytes()


def test_the_fingerprint_is_the_one_that_signing_names(run: Run, colour_bundle: Path, here: Path) -> None:
    pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
    code, out, _ = run("keygen", "theirs")
    assert code == 0
    fingerprint = out.splitlines()[-1].removeprefix("fingerprint ")
    assert run("sign", colour_bundle, "--key", "theirs.private.pem")[1].split()[-1] == fingerprint
