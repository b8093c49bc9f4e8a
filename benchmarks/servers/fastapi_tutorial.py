"""The same as tutorials write it: an uploaded file, and a handler that computes where the server listens."""

import os
from typing import Any

from fastapi import FastAPI, UploadFile

import toolkit

predictor = toolkit.load(os.environ["BUNDLE"])
app = FastAPI()


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, Any]:
    """Classify one image."""
    (prediction,) = predictor.predict(await file.read())
    probabilities = dict(zip(prediction.labels, prediction.probabilities.tolist(), strict=True))
    return {"label": prediction.label, "probability": prediction.probability, "probabilities": probabilities}
