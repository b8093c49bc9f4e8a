from __future__ import annotations

import json

import pytest

from toolkit.serving.answers import JsonResponse, refused
from toolkit.serving.refusals import BadRequest, Overloaded, Unauthorized


def test_a_refusal_is_its_code_and_its_sentence() -> None:
    response = refused(BadRequest("no."), {"more": 1})
    assert response.status_code == 400
    assert json.loads(response.body) == {"error": "no.", "more": 1}
    assert response.headers["content-type"] == "application/json"
    assert "retry-after" not in response.headers


@pytest.mark.parametrize(("seconds", "said"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.1, "2"), (30, "30")])
def test_when_to_come_back_is_a_whole_number_of_seconds(seconds: float, said: str) -> None:
    assert refused(Overloaded("later.", seconds)).headers["retry-after"] == said


def test_who_is_not_known_is_told_how_to_be() -> None:
    assert refused(Unauthorized("who?")).headers["www-authenticate"] == 'Bearer realm="toolkit"'


def test_json_is_utf_8_and_never_not_a_number() -> None:
    assert JsonResponse({"a": "ü\udcff"}).body == '{"a":"ü?"}'.encode()
    with pytest.raises(ValueError, match="Out of range"):
        JsonResponse({"a": float("nan")})
