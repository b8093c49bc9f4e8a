"""What is written to the terminal is kept."""

import os
import sys

from benchmarks.networks.terminal import heard


def test_what_is_written_to_the_terminal_is_heard():
    with heard() as said:
        os.write(2, b"from below ")
        sys.stderr.write("and from Python")
    assert "from below" in said()
