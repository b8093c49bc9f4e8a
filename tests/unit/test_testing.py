"""``toolkit.testing`` itself: what a test of somebody else imports."""

from __future__ import annotations

import pytest

import toolkit.testing
from toolkit.testing.parity import assert_parity


def test_the_function_is_there_on_first_use() -> None:
    assert toolkit.testing.assert_parity is assert_parity


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match=r"module 'toolkit\.testing' has no attribute 'nothing'"):
        _ = toolkit.testing.nothing
