from __future__ import annotations

import os
from pathlib import Path

import pytest

from toolkit.printable import printable, printable_lines, public_url, unprintable, without_credentials


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.png", "plain name.png"),
        ("猫🦊 \u3000é.png", "猫🦊 \u3000é.png"),
        ("a\x1b[31mred.png", "a\\x1b[31mred.png"),
        ("two\nlines\r\t.png", "two\\nlines\\r\\t.png"),
        ("\x7f\x85\x9b.png", "\\x7f\\x85\\x9b.png"),
        ("gnp.\u202eexe", "gnp.\\u202eexe"),
        ("\u2028\u2029\ufeff\u200b", "\\u2028\\u2029\\ufeff\\u200b"),
        ("می\u200cخواهم 👩\u200d🚀", "می\u200cخواهم 👩\u200d🚀"),
        (os.fsdecode(b"caf\xe9.png") if os.name != "nt" else "caf\\xe9.png", "caf\\xe9.png"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_name_is_shown_so_that_it_moves_nothing(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert printable(Path("folder", name)) == str(Path("folder", shown))
    shown.encode()


def test_several_lines_keep_their_ends() -> None:
    assert printable_lines("2 files:\n\ta\x1b[2Jb\n") == "2 files:\n\ta\\x1b[2Jb\n"


def test_what_could_change_what_a_terminal_shows_is_found_and_can_be_written_out() -> None:
    assert [unprintable(text) for text in ("a\x1bb", "a\nb", "\u2066", "\ud800", "na\u00efve \u732b \U0001f408")] == [
        "U+001B",
        "U+000A",
        "U+2066",
        "U+D800",
        None,
    ]
    assert unprintable("a\n\tb", lines=True) is None
    assert unprintable("a\n\x07", lines=True) == "U+0007"
    assert printable("\x1b[2J \u202e \x9b \ud800 \u732b\\") == "\\x1b[2J \\u202e \\x9b \\ud800 \u732b\\"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/folder/a.tar", "s3://bucket/folder/a.tar"),
        ("https://host:8080/a@b?x=1#y", "https://host:8080/a@b"),
        ("https://token@host/a", "https://host/a"),
        ("https://me:secret@host:8080/a", "https://host:8080/a"),
        ("s3://KEY:se/c@r#e?t@bucket/a.tar", "s3://bucket/a.tar"),
        ("s3://KEY:pass word's@bucket/a.tar", "s3://bucket/a.tar"),
        ("simplecache::https://me:secret@host/a", "simplecache::https://host/a"),
        ("models/a@b:c.tar", "models/a@b:c.tar"),
        ("s3://bucket/\x1b[2J", "s3://bucket/\\x1b[2J"),
    ],
)
def test_a_url_is_shown_without_what_is_secret_in_it(url: str, shown: str) -> None:
    assert public_url(url) == shown


def test_urls_in_a_text_are_shown_so_too() -> None:
    text = "no answer from 'https://me:secret@host/x?key=1' and ftp://u:p@[::1]/y, see mail@host"
    assert without_credentials(text) == "no answer from 'https://host/x' and ftp://[::1]/y, see mail@host"


def test_what_ends_a_sentence_is_no_part_of_the_url_in_it() -> None:
    assert without_credentials("it failed (see https://me:x@host/a?b=c). More: https://host/y.") == (
        "it failed (see https://host/a). More: https://host/y."
    )
