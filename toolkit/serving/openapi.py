"""``GET /openapi.json``: what ``POST /predict`` takes and gives, for programs that write clients.

The Open Inference Protocol has a description of its own (https://github.com/open-inference/open-inference-protocol).
"""

from __future__ import annotations

from typing import Any

import toolkit
from toolkit.serving.interface import Limits
from toolkit.serving.refusals import (
    BadRequest,
    ModelFailed,
    Overloaded,
    Refusal,
    TimedOut,
    TooLarge,
    Unauthorized,
    UnknownModel,
    UnreadableImage,
)

TOP = 5
"""Classes that are listed where nobody says how many."""
MOST_TOP = 100_000
_FILE = {"type": "string", "format": "binary"}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_OF_ONE_IMAGE = (TooLarge, UnreadableImage, ModelFailed)
"""What a single image may be refused with; where all are, the request is."""


def document(limits: Limits, *, needs_key: bool) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document.

    Args:
        limits: that are told in it.
        needs_key: whether requests need an API key.
    """
    security: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}] if needs_key else []
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "toolkit serve",
            "version": toolkit.__version__,
            "description": "Image files in, labels and probabilities out.",
        },
        "paths": {
            "/predict": {"post": {**_predict(limits, needs_key), "security": security}},
            "/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "This description.",
                    "responses": {
                        "200": {
                            "description": "An OpenAPI document.",
                            "content": {"application/json": {"schema": {"type": "object"}}},
                        },
                        **_refusals(needs_key, Overloaded),
                    },
                    "security": security,
                }
            },
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
            if needs_key
            else {},
        },
    }


def _predict(limits: Limits, needs_key: bool) -> dict[str, Any]:
    return {
        "operationId": "predict",
        "summary": "Classify image files.",
        "description": (
            f"One image file as the body, or up to {limits.images} as a form, under any name; {limits.body_bytes} "
            f"bytes in all and {limits.pixels} pixels an image. One that cannot be read fails alone: the others get "
            "their result. Only where none has a result does the request as a whole fail."
        ),
        "parameters": [
            _parameter("model", "Which model; needed where there are several.", {"type": "string", "minLength": 1}),
            _parameter("version", "Which version of it; the newest by default.", {"type": "string", "minLength": 1}),
            _parameter(
                "top",
                "How many of the most probable classes are listed.",
                {"type": "integer", "minimum": 1, "maximum": MOST_TOP, "default": TOP},
            ),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "image/*": {"schema": _FILE},
                "application/octet-stream": {"schema": _FILE},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "file": {
                                "type": "array",
                                "items": _FILE,
                                "minItems": 1,
                                "maxItems": limits.images,
                            }
                        },
                        "required": ["file"],
                        "additionalProperties": False,
                    }
                },
            },
        },
        "responses": {
            "200": {
                "description": "A result for at least one of the images.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}},
            },
            **_refusals(
                needs_key, BadRequest, UnknownModel, TooLarge, UnreadableImage, ModelFailed, Overloaded, TimedOut
            ),
        },
    }


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _refusals(needs_key: bool, *kinds: type[Refusal]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    several: list[type[Refusal]] = [*kinds, *([Unauthorized] if needs_key else [])]
    for kind in sorted(several, key=lambda kind: kind.http):
        schema = "Refused" if kind in _OF_ONE_IMAGE else "Error"
        found[str(kind.http)] = {
            "description": (kind.__doc__ or "").strip(),
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
        }
        if kind is Overloaded:
            found[str(kind.http)]["description"] = "The queue is full, or the model is not ready."
            found[str(kind.http)]["headers"] = {
                "Retry-After": {
                    "description": "Seconds after which another try makes sense.",
                    "schema": {"type": "integer", "minimum": 1},
                }
            }
    return found


def _schemas() -> dict[str, Any]:
    error = {"type": "string", "description": "What was given, what is valid, and what to do."}
    name = {"type": "string", "description": "That the form gives the file."}
    answer = {
        "model": {"type": "string"},
        "version": {"type": "string"},
        "predictions": {
            "type": "array",
            "description": "One for each image, in their order.",
            "minItems": 1,
            "items": {"oneOf": [{"$ref": "#/components/schemas/Prediction"}, {"$ref": "#/components/schemas/Failure"}]},
        },
    }
    return {
        "Answer": _object(answer),
        "Prediction": _object(
            {
                "label": {"type": "string", "description": "The most probable class."},
                "probability": _PROBABILITY,
                "top": {
                    "type": "array",
                    "description": "The most probable classes, best first.",
                    "minItems": 1,
                    "items": _object({"label": {"type": "string"}, "probability": _PROBABILITY}),
                },
            },
            {"file": name},
        ),
        "Failure": _object(
            {"error": error, "status": {"type": "integer", "description": "As of a request with this image alone."}},
            {"file": name},
        ),
        "Error": _object({"error": error}),
        "Refused": _object({"error": error}, answer),
    }


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }
