from __future__ import annotations

import pytest

from toolkit.batch.options import PART_ROWS, TOP, Options
from toolkit.errors import ToolkitError


def test_the_defaults() -> None:
    assert (Options().top, Options().part_rows, Options().batch_size) == (TOP, PART_ROWS, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"top": 0}, "top is 0"),
        ({"part_rows": 1.5}, "part_rows is 1.5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"logits": "no"}, "logits is 'no'"),
        ({"engine": "spark"}, "engine is 'spark': give here or ray"),
    ],
)
def test_what_is_no_option_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ToolkitError, match=said):
        Options(**given)  # type: ignore[arg-type]  # the mistake that is refused
