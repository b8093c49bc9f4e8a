from __future__ import annotations

import jsonschema
import pytest

from toolkit.serving.interface import Limits
from toolkit.serving.openapi import MOST_TOP, TOP, document


@pytest.mark.parametrize("needs_key", [False, True])
def test_every_reference_leads_somewhere(needs_key: bool) -> None:
    made = document(Limits(), needs_key=needs_key)
    schemas = made["components"]["schemas"]

    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    found = references(made)
    assert found
    assert {f"#/components/schemas/{name}" for name in schemas} == set(found)


@pytest.mark.parametrize("needs_key", [False, True])
def test_a_key_is_asked_for_where_one_is_needed(needs_key: bool) -> None:
    made = document(Limits(), needs_key=needs_key)
    for path in made["paths"].values():
        for operation in path.values():
            assert bool(operation["security"]) == needs_key
            assert ("401" in operation["responses"]) == needs_key


def test_what_is_answered_fits_the_description() -> None:
    made = document(Limits(), needs_key=False)
    schemas = {"components": made["components"]}

    def fits(name: str, value: object) -> bool:
        schema = {"$ref": f"#/components/schemas/{name}", **schemas}
        return jsonschema.Draft202012Validator(schema).is_valid(value)

    good = {"label": "cat", "probability": 0.5, "top": [{"label": "cat", "probability": 0.5}]}
    bad = {"file": "a.jpg", "error": "no.", "status": 422}
    assert fits("Answer", {"model": "a", "version": "1", "predictions": [good, bad]})
    assert fits("Refused", {"error": "no.", "model": "a", "version": "1", "predictions": [bad]})
    assert fits("Refused", {"error": "no."})
    assert not fits("Answer", {"model": "a", "version": "1", "predictions": []})
    assert not fits("Error", {"error": "no.", "more": 1})


def test_the_limits_are_told() -> None:
    made = document(Limits(images=7, body_bytes=12345), needs_key=False)["paths"]["/predict"]["post"]
    assert "up to 7 as a form" in made["description"]
    assert "12345 bytes" in made["description"]
    form = made["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["file"]["maxItems"] == 7
    top = next(one for one in made["parameters"] if one["name"] == "top")["schema"]
    assert (top["maximum"], top["default"]) == (MOST_TOP, TOP)
