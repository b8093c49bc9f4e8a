"""Whether a server answers the golden samples of the model beside this file as it should.

    python check.py [HOST:PORT]

Speaks gRPC, on localhost:8001 unless told otherwise. Needs numpy and tritonclient[grpc]. The samples lie in warmup/,
what is expected of them in expected.json. Each sample is sent alone, and all of them in the largest requests that the
server takes; then the server is asked for the label of the first.

Exit codes: 0 all of it is as expected, 1 something is not, 2 the server cannot be asked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

DEFAULT_URL = "localhost:8001"
TYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}

Array: TypeAlias = npt.NDArray[np.generic]
Ask: TypeAlias = Callable[[Array], Mapping[str, npt.NDArray[np.float32]]]


def check(expected: Mapping[str, Any], inputs: Array, ask: Ask) -> Iterator[str]:
    """Ask for every sample alone and for all of them together, and yield what differs, a sentence each.

    Args:
        expected: what expected.json says.
        inputs: the samples as the server takes them, N first.
        ask: sends one request; its answer holds ``logits`` and ``probabilities``, float32 ``[N, C]``.
    """
    count = len(inputs)
    most = expected["max_batch_size"] or count
    for what, size in (("alone", 1), ("together", min(most, count))):
        parts = [ask(inputs[start : start + size]) for start in range(0, count, size)]
        answer = {name: np.concatenate([part[name] for part in parts]) for name in ("logits", "probabilities")}
        yield from (f"{what}: {difference}" for difference in differences(expected, answer))


def differences(expected: Mapping[str, Any], answer: Mapping[str, npt.NDArray[np.float32]]) -> Iterator[str]:
    """Yield in which way an answer to all samples is not what is expected."""
    right = {name: np.array([case[name] for case in expected["cases"]]) for name in ("logits", "probabilities")}
    for name, values in right.items():
        if answer[name].shape != values.shape:
            yield f"{name} have the shape {list(answer[name].shape)}, not {list(values.shape)}"
            return
        if not np.isfinite(answer[name]).all():
            yield f"{name} are not finite"
            return
    if (tolerance := expected["tolerance"]) is not None:
        yield from _values(tolerance, right, answer)
    elif (limits := expected["limits"]) is not None:
        images = sum(case["kind"] == "image" for case in expected["cases"])
        yield from _classes(limits, right, answer, images)


def _values(tolerance: Mapping[str, float], right: Mapping[str, Array], answer: Mapping[str, Array]) -> Iterator[str]:
    margins = {
        "logits": tolerance["logits_absolute"] + tolerance["logits_relative"] * largest_logits(right["logits"]),
        "probabilities": tolerance["probabilities_absolute"],
    }
    for name, margin in margins.items():
        error = np.abs(answer[name].astype(float) - right[name])
        if (beyond := (error > margin).any(axis=1)).any():
            yield f"{name} differ by up to {error.max():.3g} in {beyond.sum()} of {len(error)} samples"


def _classes(
    limits: Mapping[str, Any], right: Mapping[str, Any], answer: Mapping[str, Any], images: int
) -> Iterator[str]:
    different = (answer["logits"][:images].argmax(axis=1) != right["logits"][:images].argmax(axis=1)).sum()
    if different > limits["different_classes"]:
        yield f"{different} of {images} images have another class, allowed {limits['different_classes']}"
    p, q = (np.maximum(side["probabilities"][:images].astype(float), 1e-12) for side in (right, answer))
    divergence = (p * np.log(p / q)).sum(axis=1).mean()
    if limits["mean_divergence"] is not None and divergence > limits["mean_divergence"]:
        yield f"probabilities diverge by {divergence:.3g} nats on average, allowed {limits['mean_divergence']:.3g}"
    edges = slice(images, None)
    errors = np.abs(answer["logits"] - right["logits"])[edges] / largest_logits(right["logits"])[edges]
    if len(errors) and limits["edge_error"] is not None:
        typical = np.sqrt((errors.max(axis=1) ** 2).mean())
        if typical > limits["edge_error"]:
            yield f"edge inputs differ by {typical:.3g} of the largest logit, allowed {limits['edge_error']:.3g}"


def largest_logits(right: Array) -> npt.NDArray[np.float64]:
    """Return the largest absolute logit that is expected of each sample, ``[N, 1]``, never 0."""
    largest: npt.NDArray[np.float64] = np.abs(right.astype(np.float64)).max(axis=1, keepdims=True)
    return np.maximum(largest, 1e-30)


def samples(folder: Path, expected: Mapping[str, Any]) -> Array:
    """Return the samples as the server takes them, N first."""
    kind, shape = TYPES[expected["input"]["datatype"]], expected["input"]["shape"]
    files = [(folder / case["file"]).read_bytes() for case in expected["cases"]]
    return np.stack([np.frombuffer(content, kind).reshape(shape) for content in files])


class Server:
    """The model on a server."""

    def __init__(self, url: str, expected: Mapping[str, Any]) -> None:
        import tritonclient.grpc as triton

        self._triton, self._expected = triton, expected
        self._client = triton.InferenceServerClient(url)

    def ask(self, inputs: Array) -> dict[str, npt.NDArray[np.float32]]:
        """Send one request and return ``logits`` and ``probabilities``."""
        names = self._expected["outputs"]
        answer = self._infer(inputs, [self._triton.InferRequestedOutput(name) for name in names.values()])
        return {name: answer.as_numpy(called) for name, called in names.items()}

    def label(self, inputs: Array) -> str:
        """Return what the server calls the most probable class of one image, by its classification extension."""
        name = self._expected["outputs"]["probabilities"]
        answer = self._infer(inputs, [self._triton.InferRequestedOutput(name, class_count=1)])
        # <value>:<index>:<label>, and a label may hold colons.
        return str(answer.as_numpy(name).reshape(-1)[0].decode().split(":", 2)[2])

    def _infer(self, inputs: Array, outputs: list[Any]) -> Any:
        described = self._expected["input"]
        given = self._triton.InferInput(described["name"], list(inputs.shape), described["datatype"])
        given.set_data_from_numpy(inputs)
        return self._client.infer(
            self._expected["model"], [given], model_version=str(self._expected["version"]), outputs=outputs
        )


def check_label(expected: Mapping[str, Any], said: str) -> Iterator[str]:
    """Yield what is wrong with the label of the first sample."""
    wanted = expected["labels"][int(np.argmax(expected["cases"][0]["probabilities"]))]
    if said != wanted:
        yield f"the first sample is called {said!r}, not {wanted!r}"


def main(arguments: list[str]) -> int:
    """Check the server and return the exit code."""
    folder = Path(__file__).resolve().parent
    return check_folder(folder, arguments[0] if arguments else DEFAULT_URL)


def check_folder(folder: Path, url: str) -> int:
    """Check a server with the samples of a folder, say what was found, and return the exit code."""
    from tritonclient.utils import InferenceServerException

    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    inputs = samples(folder, expected)
    what = f"{expected['model']}, version {expected['version']}, at {url}"
    try:
        server = Server(url, expected)
        failures = list(check(expected, inputs, server.ask))
        if expected["tolerance"] is not None:  # where values are not judged, another class may come first
            failures += check_label(expected, server.label(inputs[:1]))
    except InferenceServerException as error:
        sys.stderr.write(f"{what} cannot be asked: {error}\n")
        return 2
    except ValueError as error:  # tensors of another size than the answer says
        failures = [f"the answer cannot be read: {error}"]
    for failure in failures:
        sys.stdout.write(f"FAILED {failure}\n")
    if not failures:
        sys.stdout.write(f"passed: {len(inputs)} golden samples, alone and together, of {what}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
