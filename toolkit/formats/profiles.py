"""Which ONNX a file is written in: for the most readers, or for the newest."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.errors import ExportError


@dataclass(frozen=True)
class Profile:
    """An opset with the IR version that goes with it."""

    opset: int
    ir_version: int


PROFILES = {
    # The exporter's own graphs are written for opset 18; every later one is a conversion. Tried by
    # tests/compatibility/oldest_onnxruntime.py: float32 and 8-bit files run on onnxruntime 1.14.1, float16 ones on
    # 1.22.1.
    "wide": Profile(opset=18, ir_version=8),
    # The last opset that torch.onnx converts to by itself (torch.onnx._constants.ONNX_MAX_OPSET).
    "newest": Profile(opset=23, ir_version=11),
}
"""By the name that ``--profile`` takes."""


def resolve(profile: str | None, opset: int | None, ir_version: int | None) -> tuple[int | None, int | None]:
    """Return opset and IR version: those given, and for those not given the profile's.

    None is the exporter's own choice.

    Raises:
        ExportError: there is no such profile.
    """
    if profile is None:
        return opset, ir_version
    if profile not in PROFILES:
        raise ExportError(f"there is no profile {profile!r}: give one of {', '.join(PROFILES)}.")
    chosen = PROFILES[profile]
    return opset or chosen.opset, ir_version or chosen.ir_version
