"""A plain FastAPI handler on ``Predictor``: what one writes in fifteen lines."""

import os
from typing import Annotated, Any

from fastapi import Body, FastAPI

import toolkit

predictor = toolkit.load(os.environ["BUNDLE"])
app = FastAPI()


@app.post("/predict")
def predict(image: Annotated[bytes, Body(media_type="image/jpeg")]) -> dict[str, Any]:
    """Classify one image; FastAPI calls this in one of its threads."""
    (prediction,) = predictor.predict(image)
    probabilities = dict(zip(prediction.labels, prediction.probabilities.tolist(), strict=True))
    return {"label": prediction.label, "probability": prediction.probability, "probabilities": probabilities}
