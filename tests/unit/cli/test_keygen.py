from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_keys_are_never_overwritten(run: Run, key: Path) -> None:
    code, _, err = run("keygen", "ours")
    assert code == 2
    assert "ours.private.pem exists already, and keys are never overwritten" in err
