"""``make gpu-check``: what the project does on a CUDA device, proved on the machine it runs on, without network.

Runs from a copy of the repository under the machine's own PyTorch, with the wheels of ``make gpu-wheels`` in front.
Every line of its output says what was proved or why it could not be; all of it, with the figures, is left in one JSON
file. Nothing is imported from toolkit here: each step is a process of its own, with a time limit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from gpu.machine import CannotError, Line, Machine
from gpu.steps import REPOSITORY, STEPS, Step
from gpu.wheels import IncompleteError, join_pieces

BUDGET_SECONDS = 8 * 60.0


def installed(wheels: Path, work: Path) -> Path:
    """Install the gathered wheels into a folder of their own and return it.

    Raises:
        IncompleteError: they are not all there.
        CannotError: pip refuses them.
    """
    site, joined = work / "site", work / "wheels"
    joined.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
    done = subprocess.run(
        [*pip, *map(str, join_pieces(wheels, joined))], capture_output=True, text=True, check=False, timeout=180
    )
    if done.returncode:
        raise CannotError(f"pip refuses the wheels: {done.stderr.strip().splitlines()[-1]}")
    return site


def environment(site: Path | None, work: Path) -> dict[str, str]:
    """Return the environment of the steps: the wheels and the repository in front, a cache of their own."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(folder) for folder in (site, REPOSITORY) if folder),
        "PYTHONUNBUFFERED": "1",
        "TOOLKIT_CACHE": str(work / "cache"),
    }


def chosen_steps(names: Sequence[str]) -> tuple[tuple[str, Step, tuple[str, ...]], ...]:
    """Return the named steps and those they need, in the order of the whole check.

    Raises:
        CannotError: there is no such step.
    """
    needs_of = {name: needs for name, _, needs in STEPS}
    if unknown := [name for name in names if name not in needs_of]:
        raise CannotError(f"there is no step '{unknown[0]}': give some of {', '.join(needs_of)}.")
    wanted, open_names = set(names), list(names)
    while open_names:
        lacking = [need for need in needs_of[open_names.pop()] if need not in wanted]
        wanted.update(lacking)
        open_names += lacking
    return tuple(step for step in STEPS if step[0] in wanted)


def run_steps(
    machine: Machine, steps: Sequence[tuple[str, Step, tuple[str, ...]]], show: Callable[[str], None]
) -> list[Line]:
    """Run the steps in order; one whose conditions did not come to an end says so and is left out."""
    lines: list[Line] = []
    ended: set[str] = set()
    for name, step, needs in steps:
        started = time.monotonic()
        lacking = [need for need in needs if need not in ended]
        if lacking:
            results = [Line(name, "could not", f"it needs '{lacking[0]}', which did not end")]
        else:
            try:
                results = step(machine)
                ended.add(name)
            except (CannotError, OSError, ValueError, KeyError) as error:
                results = [Line(name, "failed", f"{error}" or type(error).__name__)]
        seconds = time.monotonic() - started
        # A step's own time stands on its first line; tests have times of their own.
        results = [
            line
            if line.seconds
            else Line(line.name, line.outcome, line.detail, seconds if not index else 0.0, line.figures)
            for index, line in enumerate(results)
        ]
        for line in results:
            show(line.text())
        lines += results
    return lines


def main() -> None:
    """Read the command line, run the steps and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, default=REPOSITORY / ".gpu-wheels", help="what 'make gpu-wheels' wrote")
    parser.add_argument("--out", type=Path, default=Path("artifacts/gpu-check.json"), help="where the figures go")
    parser.add_argument("--installed", action="store_true", help="use what is installed here instead of the wheels")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses the steps without a GPU"
    )
    parser.add_argument("--seconds", type=float, default=BUDGET_SECONDS, help="limit for all of it")
    parser.add_argument(
        "--only", default="", metavar="STEPS", help="steps, separated by commas; what they need is done too"
    )
    given = parser.parse_args()
    try:
        steps = chosen_steps([name.strip() for name in given.only.split(",")]) if given.only else STEPS
    except CannotError as error:
        parser.error(str(error))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="toolkit-gpu-check-") as temporary:
        work = Path(temporary)
        try:
            site = None if given.installed else installed(given.wheels, work)
        except (CannotError, IncompleteError) as error:
            lines = [Line("wheels", "failed", str(error))]
            print(lines[0].text(), flush=True)
        else:
            machine = Machine(work, environment(site, work), started + given.seconds, given.device)
            lines = run_steps(machine, steps, lambda text: print(text, flush=True))
    counts = {outcome: sum(line.outcome == outcome for line in lines) for outcome in ("proved", "failed", "could not")}
    whole = {"seconds": time.monotonic() - started, **counts, "lines": [asdict(line) for line in lines]}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(whole, indent=2) + "\n", "utf-8")
    print(
        ", ".join(f"{count} {outcome}" for outcome, count in counts.items()),
        f"in {whole['seconds']:.0f} s; {given.out}",
    )
    sys.exit(1 if counts["failed"] or not counts["proved"] else 0)


if __name__ == "__main__":
    main()
