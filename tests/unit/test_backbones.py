from __future__ import annotations

import pytest

from toolkit import backbones


@pytest.mark.parametrize("name", backbones.__all__)
def test_every_public_name_is_loaded_on_first_use(name: str) -> None:
    assert getattr(backbones, name).__name__ == name


def test_another_name_is_none() -> None:
    with pytest.raises(AttributeError, match=r"module 'toolkit\.backbones' has no attribute 'nothing'"):
        _ = backbones.nothing
