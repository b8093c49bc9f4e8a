"""A bundle behind FastAPI, for you to copy.

BUNDLE=FOLDER uvicorn service:app
curl --data-binary @photo.jpg localhost:8000/predict
"""

import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.requests import ClientDisconnect

import toolkit

MOST_BYTES = 20 * 2**20
IMAGE = {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}

predictor = toolkit.load(os.environ["BUNDLE"], threads=1)  # requests run beside each other, each on one core
if not predictor.selftest().passed:
    raise SystemExit("the golden samples do not come out here as they did where the bundle was made")
app = FastAPI(title=predictor.manifest.name)


async def body(request: Request) -> bytes:
    """Read the request's body, and stop where it is larger than an image should be."""
    content = bytearray()
    try:
        async for part in request.stream():
            content += part
            if len(content) > MOST_BYTES:
                raise HTTPException(413, f"an image may have {MOST_BYTES} bytes at most")
    except ClientDisconnect as error:
        raise HTTPException(400, "the image ended early") from error
    return bytes(content)


@app.post("/predict", openapi_extra={"requestBody": IMAGE})
def predict(image: Annotated[bytes, Depends(body)]) -> dict[str, Any]:
    """Classify one image file."""
    try:
        (prediction,) = predictor.predict(image)
    except toolkit.ImageError as error:
        raise HTTPException(422, str(error)) from error
    return {
        "label": prediction.label,
        "probability": prediction.probability,
        "probabilities": prediction.probabilities.tolist(),
        "logits": prediction.logits.tolist(),
    }
