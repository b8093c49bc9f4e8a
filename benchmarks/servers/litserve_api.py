"""``Predictor`` behind LitServe, which batches: raw bytes in, queues over ZeroMQ, a few milliseconds for a batch."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import litserve
from fastapi import Body

import toolkit

BATCH_SIZE, BATCH_SECONDS = 32, 0.005


class Images(litserve.LitAPI):  # type: ignore[misc]  # it ships no types that are looked at
    """What LitServe calls."""

    def setup(self, device: str) -> None:
        """Open the bundle in the process that computes."""
        self.predictor = toolkit.load(os.environ["BUNDLE"])

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> bytes:
        """Leave the file as it is: ``predict`` decodes those of a batch in threads."""
        return request

    def batch(self, inputs: Sequence[bytes]) -> list[bytes]:
        """Put the files of several requests together."""
        return list(inputs)

    def predict(self, x: list[bytes]) -> list[toolkit.Prediction]:
        """Classify the images of a batch."""
        return self.predictor.predict(x)

    def unbatch(self, output: list[toolkit.Prediction]) -> list[toolkit.Prediction]:
        """Give each request its own."""
        return output

    def encode_response(self, output: toolkit.Prediction) -> dict[str, Any]:
        """Write out what the model says."""
        probabilities = dict(zip(output.labels, output.probabilities.tolist(), strict=True))
        return {"label": output.label, "probability": output.probability, "probabilities": probabilities}


if __name__ == "__main__":
    api = Images(max_batch_size=BATCH_SIZE, batch_timeout=BATCH_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=True, timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
