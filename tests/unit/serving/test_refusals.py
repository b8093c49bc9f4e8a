from __future__ import annotations

import http

import pytest

from toolkit.serving import refusals
from toolkit.serving.refusals import ModelFailed, Overloaded, Refusal

KINDS = [kind for kind in vars(refusals).values() if isinstance(kind, type) and issubclass(kind, Refusal)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_refusal_has_a_code_in_both_protocols_as_its_table_says(kind: type[Refusal]) -> None:
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
    assert http.HTTPStatus(kind.http) >= 400
    assert kind.grpc in grpc.StatusCode.__members__
    if kind is not Refusal:
        assert f"── {kind.__name__:<24} {kind.http} {kind.grpc}" in (refusals.__doc__ or "")


def test_it_says_when_to_come_back_where_that_makes_sense() -> None:
    assert (str(Overloaded("later.", 3.0)), Overloaded("later.", 3.0).retry_after) == ("later.", 3.0)
    assert ModelFailed("no.").retry_after is None
