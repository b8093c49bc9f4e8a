from __future__ import annotations

import pytest

from toolkit.bundle.trust.strict_json import parse_json


def test_plain_json() -> None:
    assert parse_json('{"a": [1, 2.5, null, true, "é"], "b": {"a": -1e-3}}'.encode()) == {
        "a": [1, 2.5, None, True, "é"],
        "b": {"a": -1e-3},
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "Expecting property name"),
        (b"", "Expecting value"),
        (b'{"a": 1, "a": 2}', "the key 'a' stands twice in one object"),
        (b'[{"b": {"a": 1, "a": 1}}]', "the key 'a' stands twice"),
        (b"[NaN]", "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b"[1e999]", "the number 1e999 is too large"),
        (b"[" + b"9" * 5000 + b"]", "the number 9{40} is too large: it has 5000 digits"),
        (b"[" * 100_000 + b"]" * 100_000, "it is nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "it is nested too deeply"),
        (b'"\xff"', "can't decode byte 0xff"),
        ('{"a": 1}'.encode("utf-16"), "can't decode"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(content)
