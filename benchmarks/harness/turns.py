"""Processes that take turns, so that what slows the machine slows them all."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.harness.child import Child, Command, Run


def run_in_turns(commands: Sequence[Command], turns: Sequence[float]) -> list[Run]:
    """Run commands side by side, each in its turn, so that what slows the machine slows them all.

    Args:
        commands: what to run.
        turns: seconds of each one's turn.

    Returns:
        What was measured of each; its seconds are those of its own turns.

    Raises:
        BenchmarkError: one could not be started, or ended with another exit code than 0.
    """
    taken: list[list[tuple[float, float]]] = [[] for _ in commands]
    results: dict[int, Run] = {}
    with contextlib.ExitStack() as stack:
        children: dict[int, Child] = {}
        while len(results) < len(commands):
            for index, (command, turn) in enumerate(zip(commands, turns, strict=True)):
                if index in results:
                    continue
                began = time.monotonic()
                if index in children:
                    children[index].signal(signal.SIGCONT)
                else:
                    children[index] = stack.enter_context(Child(command.words, command.environment))
                has_ended = children[index].wait(turn)
                if not has_ended:
                    children[index].signal(signal.SIGSTOP)
                taken[index].append((began, time.monotonic()))
                if has_ended:
                    spent = sum(ended - began for began, ended in taken[index])
                    results[index] = replace(children[index].result(spent), turns=tuple(taken[index]))
    return [results[index] for index in range(len(commands))]
