"""What devices are called: ``cpu``, ``cuda``, and ``cuda:1`` for the second GPU; the one place that reads this."""

from __future__ import annotations

import re

from toolkit.errors import DeviceError

AUTO = "auto"
"""What a person says who leaves the choice to whoever runs something."""
DEVICE_NAMES = ("cpu", "cuda", "cuda:N")
"""As messages list them."""
_NAME = re.compile(r"cpu|cuda(?::(0|[1-9][0-9]?))?")


def is_device(device: object) -> bool:
    """Tell whether something is ``cpu``, ``cuda`` or ``cuda:N``."""
    return isinstance(device, str) and _NAME.fullmatch(device) is not None


def kind_of(device: str) -> str:
    """Return ``cpu`` or ``cuda``.

    Raises:
        DeviceError: it is no such name.
    """
    return check_device(device).partition(":")[0]


def index_of(device: str) -> int:
    """Return which of the devices of its kind is meant; the first, unless the name says another.

    Raises:
        DeviceError: it is no such name.
    """
    return int(check_device(device).partition(":")[2] or 0)


def check_device(device: str, *others: str) -> str:
    """Return a name as it is, or refuse it.

    Args:
        device: the name.
        others: words that could have been given instead, for the message.

    Raises:
        DeviceError: it is not ``cpu``, ``cuda`` or ``cuda:N``.
    """
    if not is_device(device):
        raise DeviceError(f"there is no device {device!r}: give one of {', '.join(others + DEVICE_NAMES)}.")
    return device


def require_cuda_device(device: str, count: int, engine: str) -> None:
    """Refuse a GPU that is not there.

    Args:
        device: its name.
        count: how many GPUs an engine sees.
        engine: its name, for the message.

    Raises:
        DeviceError: saying which there are.
    """
    if count and index_of(device) >= count:
        there = "cuda:0 alone" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"there is no {device} here: {engine} sees {there}. Give one of these, or cpu.")
