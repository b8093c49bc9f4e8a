"""The arithmetic of forward and backward passes.

Float32, or autocast to a narrower type with a scaler where that needs one. On a CPU grouped convolutions stay in
float32 in any case: PyTorch's kernels for them are slower in bfloat16.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from toolkit.errors import DeviceError

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_CONVOLUTIONS: tuple[Callable[..., Any], ...] = (functional.conv1d, functional.conv2d, functional.conv3d)


def multiplies_bfloat16() -> bool:
    """Tell whether this processor has instructions that multiply bfloat16 numbers (AVX-512 BF16 or AMX)."""
    # Older releases of PyTorch do not say what the processor has.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def gains_from_bfloat16(trained: Iterable[nn.Module]) -> bool:
    """Tell whether a CPU that multiplies bfloat16 trains these layers faster in it.

    Layers that are products of matrices do; grouped convolutions stay in float32, and a head alone has nothing to gain.
    A rule and not a measurement, so that a run does the same arithmetic each time on the same processor. What it gains
    is measured by ``python -m benchmarks.training_precision``.

    Args:
        trained: what a step computes besides the head.
    """
    layers = (layer for module in trained for layer in module.modules())
    return any(isinstance(layer, nn.Linear) or (isinstance(layer, _ConvNd) and layer.groups == 1) for layer in layers)


def choose_precision(wanted: str, device: torch.device, trained: Iterable[nn.Module]) -> str:
    """Return ``float32``, ``bfloat16`` or ``float16``.

    Args:
        wanted: one of them, or ``auto``.
        device: where training runs.
        trained: what a step computes besides the head; ``auto`` looks at it on a CPU.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        # By default PyTorch counts cards too that have bfloat16 as a type and compute it in float32.
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if multiplies_bfloat16() and gains_from_bfloat16(trained) else "float32"


class _GroupedInFloat32(TorchFunctionMode):
    """Inside a ``with`` block of it, autocast on the CPU leaves convolutions with several groups in float32."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute a grouped convolution without autocast, and everything else as it is."""
        named = dict(kwargs or {})
        if func not in _CONVOLUTIONS or _groups(*args, **named) == 1:
            return func(*args, **named)
        with torch.autocast("cpu", enabled=False):
            return func(*map(_widened, args), **{name: _widened(value) for name, value in named.items()})


def _groups(
    input: torch.Tensor,  # the names that PyTorch gives them
    weight: torch.Tensor,
    bias: object = None,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: int = 1,
) -> int:
    """Return the groups of a call of a convolution."""
    return groups


def _widened(value: object) -> object:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 else value


class Precision:
    """How a step computes.

    Attributes:
        name: ``float32``, ``bfloat16`` or ``float16``.
        device: ``cpu`` or ``cuda``.
        narrow: what autocast computes in; None for float32 throughout.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        """Make it.

        Args:
            name: ``float32``, ``bfloat16`` or ``float16``.
            device: where training runs.

        Raises:
            DeviceError: float16 was asked for on a CPU, where its gradients underflow and nothing gets faster.
        """
        if name == "float16" and device.type == "cpu":
            raise DeviceError("--precision float16 needs CUDA: use float32 or bfloat16 on the CPU.")
        self.name = name
        self.device = device.type
        self.narrow = _TYPES.get(name)
        # float16 gradients underflow without it; it skips steps whose gradients overflowed.
        self._scaler = torch.amp.GradScaler(device.type) if name == "float16" else None

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute forward passes in the narrower type for the length of the block, and grouped convolutions as above.

        Other modes that look at convolutions are entered before, so that they are told of those in float32.
        """
        narrow_on_cpu = self.narrow is not None and self.device == "cpu"
        with (
            torch.autocast(self.device, dtype=self.narrow, enabled=self.narrow is not None),
            _GroupedInFloat32() if narrow_on_cpu else contextlib.nullcontext(),
        ):
            yield

    def backward(self, loss: torch.Tensor) -> None:
        """Compute gradients, which a scaler multiplies until the step; never waits for the device."""
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Make a step with the gradients; never waits for the device."""
        if self._scaler is None:
            optimizer.step()
            return
        self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, float]:
        """Return what a checkpoint keeps: the scaler's state, empty without one."""
        return self._scaler.state_dict() if self._scaler is not None else {}

    def load(self, state: dict[str, float]) -> None:
        """Put back what ``state`` returned."""
        if self._scaler is not None and state:
            self._scaler.load_state_dict(state)
