"""Command lines of the benchmarks."""

from benchmarks.harness.command_line import split_arguments


def test_arguments_after_the_dashes_are_passed_on():
    assert split_arguments(["--data", "x", "--", "--resize", "crop", "--"]) == (
        ["--data", "x"],
        ["--resize", "crop", "--"],
    )
    assert split_arguments(["--data", "x"]) == (["--data", "x"], [])
