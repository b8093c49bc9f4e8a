from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.errors import ToolkitError
from toolkit.serving.keys import ApiKeys

ONE, OTHER = "a" * 16, "0123456789abcdef0123"


@pytest.fixture
def keys(tmp_path: Path) -> ApiKeys:
    (tmp_path / "keys").write_text(f"# ours\n{ONE}\n\n  {OTHER}  \r\n")
    return ApiKeys.read(tmp_path / "keys")


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {ONE}"},
        {"authorization": f"bearer {OTHER}"},
        {"x-api-key": OTHER},
        {"x-api-key": ONE, "authorization": "Basic abc"},
    ],
)
def test_a_key_that_is_known_passes(keys: ApiKeys, headers: dict[str, str]) -> None:
    assert keys.authorize(headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {ONE}a"},
        {"authorization": "Bearer "},
        {"x-api-key": ""},
        {"x-api-key": "# ours"},
        {"x-api-key": "ä\udcff"},
        {"x-api-key": ONE[:-1]},
    ],
)
def test_another_key_does_not(keys: ApiKeys, headers: dict[str, str]) -> None:
    refusal = keys.authorize(headers)
    assert str(refusal) == "the API key is not known here."


@pytest.mark.parametrize("headers", [{}, {"authorization": f"Basic {ONE}"}, {"authorization": ONE}])
def test_without_a_key_the_sentence_says_how_to_give_one(keys: ApiKeys, headers: dict[str, str]) -> None:
    refusal = keys.authorize(headers)
    assert str(refusal) == "this server wants an API key, in the header 'Authorization: Bearer KEY'."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no API key: write one a line."),
        (b"# only this\n", "holds no API key"),
        (b"short\n", "the API key in line 1 of"),
        (b"# a\nwith blanks in it, and long\n", "the API key in line 2 of"),
        ("ключ-которого-не-бывает".encode(), "the API key in line 1 of"),
        (b"\xff\xfe", "cannot be read: it is no text in UTF-8"),
    ],
)
def test_a_file_without_good_keys_is_refused_without_quoting_them(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ToolkitError) as refused:
        ApiKeys.read(tmp_path / "keys")
    assert said in str(refused.value)
    assert "short" not in str(refused.value)
    assert "blanks in it" not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="keys cannot be read: No such file or directory"):
        ApiKeys.read(tmp_path / "keys")
