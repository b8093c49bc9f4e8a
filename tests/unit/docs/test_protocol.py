"""What the page of the protocol says is what the code does."""

from __future__ import annotations

import re

from pages import rows, text_of

from toolkit.serving import refusals
from toolkit.serving.refusals import Refusal
from toolkit.serving.v2 import grpc_server, http
from toolkit.serving.v2.contract import INPUT, MOST_NUMBERS, OUTPUTS

PAGE = text_of("docs/protocol.md")
TABLES = list(rows(PAGE))


def test_every_refusal_stands_in_the_table_with_both_of_its_codes() -> None:
    kinds = [kind for kind in vars(refusals).values() if isinstance(kind, type) and issubclass(kind, Refusal)]
    written = {(first, second.strip("`")) for first, second, *_ in TABLES if first.isdigit()}
    assert written == {(str(kind.http), kind.grpc) for kind in kinds}


def test_every_input_and_output_stands_in_the_table() -> None:
    named = {second.strip("`") for first, second, *_ in TABLES if first in ("in", "in, instead", "out")}
    assert named == {INPUT, *OUTPUTS}


def test_every_path_and_method_is_told_of() -> None:
    told = set(re.findall(r"/v2[/\w]*", PAGE))
    # A version is asked as its model is, and to load a model is refused.
    paths = {path.replace("{name}", "NAME") for _, path, _ in http._TABLE if "{version}" not in path} - {"/v2/"}
    assert {path for path in paths if not path.endswith("load")} <= told
    methods = set(grpc_server._HANDLERS) - {"RepositoryModelLoad", "RepositoryModelUnload", "ModelInfer"}
    assert {name for name in methods if f"`{name}`" not in PAGE} == set()


def test_the_limit_of_numbers_is_that_of_the_code() -> None:
    assert f"{MOST_NUMBERS:,} of them" in PAGE
    assert MOST_NUMBERS // (224 * 224 * 3) == 13
