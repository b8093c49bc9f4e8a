"""``Predictor`` behind KServe's Python server, which takes image files over gRPC; in an environment of its own."""

import asyncio
import os
import sys
from typing import Any

import kserve
import numpy as np
from kserve import InferOutput, InferRequest, InferResponse

import toolkit


class Images(kserve.Model):  # type: ignore[misc]  # it ships no types that are looked at
    """What KServe calls."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.predictor = toolkit.load(os.environ["BUNDLE"])
        self.ready = True

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        """Classify image files, in a thread, so that others are listened to."""
        files = [bytes(file) for file in payload.inputs[0].as_numpy().ravel()]
        predictions = await asyncio.to_thread(self.predictor.predict, files)
        output = InferOutput("probabilities", [len(files), len(self.predictor.labels)], "FP32")
        output.set_data_from_numpy(np.stack([one.probabilities for one in predictions]), binary_data=True)
        return InferResponse(payload.id or "", self.name, [output])


if __name__ == "__main__":
    http_port, grpc_port, name = sys.argv[1:]
    kserve.ModelServer(http_port=int(http_port), grpc_port=int(grpc_port), workers=1).start([Images(name)])
