"""Running one side of a comparison, whatever it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from toolkit.errors import BundleError, RecipeError, first_line
from toolkit.files import open_regular
from toolkit.formats.onnx import import_onnxruntime
from toolkit.printable import printable

Array: TypeAlias = npt.NDArray[Any]
Inputs: TypeAlias = Any
"""One array or tensor, a sequence of them, or a mapping of names to them."""
Outputs: TypeAlias = Mapping[str, Array] | Sequence[Array]
"""By name where the side names its outputs, in order otherwise."""


def run_side(side: Any, inputs: Inputs) -> Outputs:
    """Run a torch module, a callable, an ONNX file (path or bytes) or an onnxruntime session.

    Raises:
        RecipeError: it is none of these, or the inputs do not fit it.
        BundleError: onnxruntime refuses the file.
        MissingDependencyError: the file needs onnxruntime, which is not installed.
    """
    if isinstance(side, str | os.PathLike | bytes):
        side = _open(side)
    if hasattr(side, "get_inputs") and hasattr(side, "run"):
        return _run_session(side, inputs)
    if not callable(side):
        raise RecipeError(
            f"a {type(side).__name__} cannot be run: give a torch module, a callable, the path of an ONNX file or a "
            "session."
        )
    return _run_torch(side, inputs) if _is_module(side) else _named(_call(side, inputs, np.asarray))


def _open(source: str | os.PathLike[str] | bytes) -> Any:  # onnxruntime ships no type information
    onnxruntime = import_onnxruntime()
    if not isinstance(source, bytes):
        try:
            open_regular(source).close()  # onnxruntime would wait for a pipe
        except OSError as error:
            raise BundleError(f"the ONNX file {printable(source)} cannot be read: {error.strerror}.") from error
    name = "the model given as bytes" if isinstance(source, bytes) else str(Path(source))
    try:
        return onnxruntime.InferenceSession(
            source if isinstance(source, bytes) else name, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions have no common base below Exception
        raise BundleError(f"onnxruntime refuses {name}: {first_line(error)}") from error


def _run_session(session: Any, inputs: Inputs) -> dict[str, Array]:
    wanted = [value.name for value in session.get_inputs()]
    given = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(wanted, _several(inputs), strict=False))
    if set(given) != set(wanted) or (not isinstance(inputs, Mapping) and len(_several(inputs)) != len(wanted)):
        count = len(inputs) if isinstance(inputs, Mapping) else len(_several(inputs))
        raise RecipeError(
            f"the session takes {', '.join(wanted)}, and {count} inputs were given ({', '.join(given)}): give each "
            "by its name."
        )
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {name: _array(value) for name, value in given.items()}), strict=True))


def _is_module(side: Any) -> bool:
    return any(
        f"{kind.__module__}.{kind.__qualname__}" == "torch.nn.modules.module.Module" for kind in type(side).__mro__
    )


def _run_torch(module: Any, inputs: Inputs) -> Outputs:
    import torch

    placed = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    with _evaluating(module), torch.inference_mode():
        return _named(_call(module, inputs, lambda value: torch.from_numpy(np.array(_array(value))).to(placed)))


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Put a module and all inside it in inference mode, and back as each was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _call(function: Callable[..., Any], inputs: Inputs, convert: Callable[[Any], Any]) -> Any:
    if isinstance(inputs, Mapping):
        return function(**{name: convert(value) for name, value in inputs.items()})
    return function(*(convert(value) for value in _several(inputs)))


def _several(inputs: Inputs) -> list[Any]:
    return list(inputs) if isinstance(inputs, list | tuple) else [inputs]


def _named(outputs: Any) -> Outputs:
    if isinstance(outputs, Mapping):
        return {str(name): _array(value) for name, value in outputs.items()}
    return [_array(value) for value in outputs] if isinstance(outputs, list | tuple) else [_array(outputs)]


def _array(value: Any) -> Array:
    """Return an array on the host, of a tensor too."""
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
