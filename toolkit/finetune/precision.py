"""The arithmetic of forward and backward passes: float32, or autocast to a narrower type with a scaler where that needs one."""

from __future__ import annotations

import contextlib

import torch

from toolkit.errors import DeviceError

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """How a step computes.

    Attributes:
        device: ``cpu`` or ``cuda``.
        narrow: what autocast computes in; None for float32 throughout.
    """

    def __init__(self, wanted: str, device: torch.device) -> None:
        """Choose.

        Args:
            wanted: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
            device: where training runs.

        Raises:
            DeviceError: float16 was asked for on a CPU, where its gradients underflow and nothing gets faster.
        """
        if wanted == "auto":
            wanted = "float32" if device.type == "cpu" else "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        if wanted == "float16" and device.type == "cpu":
            raise DeviceError("--precision float16 needs CUDA: use float32 or bfloat16 on the CPU.")
        self.device = device.type
        self.narrow = _TYPES.get(wanted)
        # float16 gradients underflow without it; it skips steps whose gradients overflowed.
        self._scaler = torch.amp.GradScaler(device.type) if wanted == "float16" else None

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context for a forward pass."""
        return torch.autocast(self.device, dtype=self.narrow, enabled=self.narrow is not None)

    def backward_and_step(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Compute gradients and make a step; never waits for the device."""
        if self._scaler is None:
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            return
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, float]:
        """Return what a checkpoint keeps: the scaler's state, empty without one."""
        return self._scaler.state_dict() if self._scaler is not None else {}

    def load(self, state: dict[str, float]) -> None:
        """Put back what ``state`` returned."""
        if self._scaler is not None and state:
            self._scaler.load_state_dict(state)
