"""Which 8-bit arithmetic suits a processor."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CPUINFO = Path("/proc/cpuinfo")
X86 = ("x86_64", "amd64", "i686", "i386")
DOT_PRODUCT_FLAGS = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8")
"""Processor flags, as Linux names them, of instructions that add products of 8-bit numbers in 32 bits."""


@dataclass(frozen=True)
class Arithmetic:
    """Types and range of quantised numbers; weights are always int8."""

    activations: Literal["uint8", "int8"]
    weight_bits: Literal[7, 8]
    reason: str
    """What on this processor decides it."""


def arithmetic_for(machine: str, flags: frozenset[str]) -> Arithmetic:
    """Choose the arithmetic of a processor.

    x86 multiplies unsigned by signed bytes. Without VNNI or AMX it adds two such products in 16 bits and saturates at
    32,767, which 255 * 127 * 2 exceeds and 255 * 63 * 2 does not: weights must then keep to 7 bits
    (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "Data type selection"). ARM
    multiplies signed bytes.

    Args:
        machine: as ``platform.machine`` says.
        flags: what ``processor_flags`` found.
    """
    if machine.lower() not in X86:
        return Arithmetic("int8", 8, f"{machine}: signed products in 32 bits")
    instructions = _instructions(flags)
    if instructions:
        return Arithmetic("uint8", 8, f"{machine} with {', '.join(instructions)}")
    known = f"without {' or '.join(DOT_PRODUCT_FLAGS)}" if flags else "whose instructions are not known here"
    return Arithmetic("uint8", 7, f"{machine} {known}: products are taken to saturate in 16 bits")


def adds_in_32_bits(machine: str, flags: frozenset[str]) -> bool | None:
    """Say whether a processor has instructions that add products of 8-bit numbers in 32 bits; None if not known.

    Args:
        machine: as ``platform.machine`` says.
        flags: what ``processor_flags`` found.
    """
    return bool(_instructions(flags)) if flags and machine.lower() in X86 else None


def _instructions(flags: frozenset[str]) -> list[str]:
    return [flag for flag in DOT_PRODUCT_FLAGS if flag in flags]


def processor_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """Return the flags that every core has; nothing where the system does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    per_core = [
        frozenset(line.partition(":")[2].split()) for line in lines if line.partition(":")[0].strip() == "flags"
    ]
    return frozenset.intersection(*per_core) if per_core else frozenset()


def arithmetic_here() -> Arithmetic:
    """Choose the arithmetic of this machine's processor."""
    return arithmetic_for(platform.machine(), processor_flags())
