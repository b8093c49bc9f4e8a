from __future__ import annotations

import json

import pytest

from toolkit.bundle.trust.strict_json import LimitError, parse_json


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


@pytest.mark.parametrize(
    "character", ["\x1b", "\x00", "\r", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\ud800"], ids=ascii
)
def test_text_that_could_change_what_a_terminal_shows_is_refused(character: str) -> None:
    for tree in (character, [character], {"a": {"b": ["x", character]}}, {character: 1}, {"recipe": character}):
        with pytest.raises(LimitError, match=rf"holds the character U\+{ord(character):04X}, which could change"):
            parse_json(json.dumps(tree).encode())


def test_lines_stand_only_where_text_has_lines() -> None:
    assert parse_json(b'{"recipe": "a\\n\\tb", "intended_use": "a\\nb"}') == {
        "recipe": "a\n\tb",
        "intended_use": "a\nb",
    }
    for character in ("n", "t"):
        with pytest.raises(LimitError, match="the text of 'label' holds the character U"):
            parse_json(b'{"label": "a\\%cb"}' % ord(character))


@pytest.mark.parametrize(
    "text", ["\u732b \U0001f408", "\u05d7\u05ea\u05d5\u05dc\u200f", "na\u00efve", "\U0001f468\u200d\U0001f469"]
)
def test_text_of_any_language_is_text(text: str) -> None:
    assert (
        parse_json(json.dumps([text]).encode()) == parse_json(json.dumps([text], ensure_ascii=False).encode()) == [text]
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 33 + b"]" * 33, "more than 32 objects and arrays inside each other"),
        (b'{"a":' * 33, "more than 32 objects"),
        (b"[" + b"[]," * 250_000 + b"[]]", "more than 250000 values"),
        (b'{"labels": [' + b"1," * 250_000 + b"1]}", "more than 250000 values"),
        (b'{"confusion": [' + b"1," * 250_000 + b"1]}", "more than 250000 values"),
        (b'{"logits": [' + b"[]," * 250_000 + b"1]}", "more than 250000 values"),
        (b'{"logits": [' + b"1," * 2_250_001 + b"1]}", "more than 2250000 values"),
    ],
)
def test_what_would_cost_too_much_is_refused_before_a_record_looks_at_it(content: bytes, reason: str) -> None:
    with pytest.raises(LimitError, match=reason):
        parse_json(content)


def test_brackets_are_counted_before_one_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, those of 60 MB would take a minute."""
    monkeypatch.delattr("toolkit.bundle.trust.strict_json.re.finditer")
    with pytest.raises(LimitError, match="more than 250000 values"):
        parse_json(b"[" + b"[]," * 250_000 + b"[]]")


def test_brackets_inside_of_strings_are_not_nested() -> None:
    assert parse_json(b'["' + b"[" * 100 + b'\\"[[[", "\\\\"]')[0].count("[") == 103


def test_quotes_that_never_end_are_looked_at_once() -> None:
    """Quadratic in its length, this would take minutes."""
    with pytest.raises(ValueError, match="Unterminated"):
        parse_json(b'"' + b'\\"' * 1_000_000)


def test_many_numbers_are_fine_where_they_belong() -> None:
    matrix = [[0] * 600] * 600
    assert parse_json(json.dumps({"evaluation": {"confusion": matrix}}).encode())["evaluation"]["confusion"] == matrix
    assert len(parse_json(json.dumps({"logits": [0.5] * 300_000}).encode())["logits"]) == 300_000
