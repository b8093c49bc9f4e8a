from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.formats.quantization.arithmetic import adds_in_32_bits, arithmetic_for, arithmetic_here, processor_flags

AVX2 = frozenset({"sse4_2", "avx2", "fma"})


@pytest.mark.parametrize("flag", ["avx512_vnni", "avx_vnni", "amx_int8"])
def test_a_processor_that_adds_in_32_bits_gets_all_8_bits(flag: str) -> None:
    found = arithmetic_for("x86_64", AVX2 | {flag})
    assert (found.activations, found.weight_bits) == ("uint8", 8)
    assert flag in found.reason


@pytest.mark.parametrize("machine", ["x86_64", "AMD64"])
def test_a_processor_that_saturates_in_16_bits_gets_weights_of_7(machine: str) -> None:
    found = arithmetic_for(machine, AVX2)
    assert (found.activations, found.weight_bits) == ("uint8", 7)
    assert "saturate" in found.reason


def test_where_the_system_does_not_tell_the_safe_choice_is_made() -> None:
    found = arithmetic_for("x86_64", frozenset())
    assert found.weight_bits == 7
    assert "not known" in found.reason


def test_arm_multiplies_signed_bytes() -> None:
    assert arithmetic_for("aarch64", frozenset()).activations == "int8"


@pytest.mark.parametrize(
    ("machine", "flags", "known"),
    [
        ("x86_64", AVX2 | {"avx_vnni"}, True),
        ("x86_64", AVX2, False),
        ("x86_64", frozenset(), None),
        ("aarch64", frozenset({"asimddp"}), None),
    ],
)
def test_instructions_for_8_bits_are_known_of_x86_where_the_system_tells(
    machine: str, flags: frozenset[str], known: bool | None
) -> None:
    assert adds_in_32_bits(machine, flags) is known


def test_the_largest_products_saturate_with_8_bits_and_not_with_7() -> None:
    assert 255 * 127 * 2 > 2**15 - 1 >= 255 * 63 * 2


def test_flags_are_those_of_every_core(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nflags\t\t: avx2 avx_vnni\n\nprocessor\t: 1\nflags\t\t: avx2\nvmx flags\t: avx512_vnni\n"
    )
    assert processor_flags(cpuinfo) == {"avx2"}


def test_a_system_without_the_file_has_no_flags(tmp_path: Path) -> None:
    assert processor_flags(tmp_path / "nothing") == frozenset()


def test_this_machine_gets_an_answer() -> None:
    assert arithmetic_here().weight_bits in (7, 8)
