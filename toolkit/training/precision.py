"""The arithmetic of forward and backward passes.

Float32, or autocast to a narrower type with a scaler where that needs one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from toolkit.errors import DeviceError

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def multiplies_bfloat16() -> bool:
    """Tell whether this processor has instructions that multiply bfloat16 numbers (AVX-512 BF16 or AMX)."""
    # Older releases of PyTorch do not say what the processor has.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def gains_from_bfloat16(trained: Iterable[nn.Module]) -> bool:
    """Tell whether a CPU that multiplies bfloat16 trains these layers faster in it.

    ResNet-18's last block trains 1.7 times as fast; PyTorch's grouped and depthwise convolutions are slower in it than
    in float32, and a head alone has nothing to gain. A rule and not a measurement, so that a run does the same
    arithmetic each time on the same processor.

    Args:
        trained: what a step computes besides the head.
    """
    layers = [layer for module in trained for layer in module.modules() if isinstance(layer, _ConvNd | nn.Linear)]
    return bool(layers) and all(layer.groups == 1 for layer in layers if isinstance(layer, _ConvNd))


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

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context for a forward pass."""
        return torch.autocast(self.device, dtype=self.narrow, enabled=self.narrow is not None)

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
