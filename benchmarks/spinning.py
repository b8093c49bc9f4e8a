"""What onnxruntime's spinning costs and gains at batch 1: on idle cores, beside others, and in several workers.

Idle threads of the engine either wait in a loop for the next piece of work (its own choice) or sleep. The sides run in
turns, with random weights: speed does not depend on them. Some 2 minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.command_line import main, positive, report_parser
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.figures import Spread, spread
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.random_artifact import write_onnx
from toolkit import provenance
from toolkit.formats.onnx import SPINNING, import_onnxruntime

NAME = "spinning"
SIDES = {"spin": True, "sleep": False}
BEFORE, AFTER = SIDES
LOADS = ("idle", "loaded")
WORKERS = "workers"
"""Several processes of one service, each with a session of as many threads as there are cores."""
WORKER_COUNT = 4
WORKER_SECONDS = 2.0
PAUSE_SECONDS = 0.05
"""Between two sides, so that the threads of one have stopped spinning when the other starts."""
NOTICEABLE = 1.1
"""How many times as many images workers that sleep must answer together, at least."""
KEPT = 0.5
"""The share of the speed of a process that has idle cores to itself which sleeping must leave."""
BUSY = "while True: pass"
WORKER = """
import sys, time
import numpy as np
from pathlib import Path
from benchmarks.spinning import open_side
path, threads, spins, size, seconds = sys.argv[1:]
session = open_side(Path(path), int(threads), spins == "True")
images = np.zeros((1, int(size), int(size), 3), np.uint8)
session.run(None, {"images": images})
print("ready", flush=True)
sys.stdin.readline()
calls, used, began = 0, time.process_time(), time.perf_counter()
while (passed := time.perf_counter() - began) < float(seconds):
    session.run(None, {"images": images})
    calls += 1
print(calls / passed, (time.process_time() - used) / max(calls, 1), flush=True)
"""

Measured = dict[str, dict[str, dict[str, list[float]]]]
"""Load, side, and ``wall`` or ``processor``: seconds per call of each round."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--backbone", default="timm:tf_efficientnet_lite0", metavar="NAME", help="as of toolkit")
    parser.add_argument("--image-size", type=positive, default=128, metavar="PIXELS")
    parser.add_argument("--threads", type=positive, default=provenance.available_cores(), help="of each session")
    parser.add_argument("--rounds", type=positive, default=15, help="turns of each side under each load")
    parser.add_argument("--seconds", type=float, default=0.8, help="of each turn")
    parser.add_argument("--worker-rounds", type=positive, default=5, help="turns of each side with several workers")
    return parser.parse_args(arguments)


def open_side(path: Path, threads: int, spins: bool) -> Any:  # onnxruntime ships no type information
    """Open a session whose threads do or do not spin."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", str(int(spins)))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def load_of(load: str) -> Iterator[None]:
    """Keep every core busy with a process of its own inside the block, if the load is ``loaded``."""
    count = provenance.available_cores() if load == "loaded" else 0
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def turn(call: Callable[[], object], seconds: float) -> dict[str, float]:
    """Call for some time and return the seconds per call: of the clock, and of processors in this process."""
    call()
    calls, used, began = 0, time.process_time(), time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds or not calls:
        call()
        calls += 1
    return {"wall": passed / calls, "processor": (time.process_time() - used) / calls}


def measure(calls: dict[str, Callable[[], object]], rounds: int, seconds: float) -> Measured:
    """Let the sides take turns under each load, each round in another order."""
    order = np.random.default_rng(0)
    found: Measured = {load: {side: {"wall": [], "processor": []} for side in calls} for load in LOADS}
    for load in LOADS:
        with load_of(load):
            for _ in range(rounds):
                for side in order.permutation(list(calls)):
                    time.sleep(PAUSE_SECONDS)
                    for what, value in turn(calls[side], seconds).items():
                        found[load][side][what].append(value)
    return found


def worker_turn(path: Path, threads: int, spins: bool, size: int) -> dict[str, float]:
    """Let several workers call at the same time; return seconds per call of all together, and of processors."""
    arguments = [str(path), str(threads), str(spins), str(size), str(WORKER_SECONDS)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(WORKER_COUNT)
    ]
    with contextlib.ExitStack() as all_of_them:
        pipes = [(worker.stdin, worker.stdout) for worker in map(all_of_them.enter_context, workers)]
        for _, said in pipes:
            _required(said).readline()
        for told, _ in pipes:  # all of them before any is waited for: they must run at the same time
            _required(told).write("go\n")
            _required(told).flush()
        answers = [_required(said).readline().split() for _, said in pipes]
    rates, used = ([float(answer[place]) for answer in answers] for place in (0, 1))
    return {"wall": 1 / sum(rates), "processor": sum(used) / len(used)}


def _required(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise BenchmarkError("a worker was started without pipes.")
    return pipe


def measure_workers(path: Path, options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Let services of both sides take turns, each round in another order."""
    order = np.random.default_rng(1)
    found: dict[str, dict[str, list[float]]] = {side: {"wall": [], "processor": []} for side in SIDES}
    for _ in range(options.worker_rounds):
        for side in order.permutation(list(SIDES)):
            for what, value in worker_turn(path, options.threads, SIDES[side], options.image_size).items():
                found[side][what].append(value)
    return found


def per_second(found: Measured, load: str, side: str) -> Spread:
    """Return single images per second, round by round."""
    return spread([1 / seconds for seconds in found[load][side]["wall"]])


def claims(found: Measured) -> list[Claim]:
    """Judge the default: what it gains where workers share cores, and what it costs a process that is alone."""
    gain = {load: per_second(found, load, AFTER).median / per_second(found, load, BEFORE).median for load in found}
    return [
        Claim(
            f"{WORKER_COUNT} workers whose threads sleep answer at least {NOTICEABLE}x as many images",
            f"{gain[WORKERS]:.2f}x",
            gain[WORKERS] >= NOTICEABLE,
        ),
        Claim(
            f"one process on idle cores keeps at least {KEPT:.0%} of its speed",
            f"{gain['idle']:.0%}",
            gain["idle"] >= KEPT,
        ),
    ]


def table(found: Measured) -> Table:
    """Write out a row per load and side."""
    rows = []
    for load in found:
        baseline = per_second(found, load, BEFORE).median
        for side in SIDES:
            speed, used = per_second(found, load, side), spread(found[load][side]["processor"])
            milliseconds = spread([1000 * seconds for seconds in found[load][side]["wall"]])
            figures = (f"{speed:.1f}", f"{speed.median / baseline:.2f}", f"{milliseconds:.2f}")
            rows.append((load, side, *figures, f"{1000 * used.median:.2f}"))
    header = ("cores", "threads", "images/s at batch 1", "ratio", "ms per call", "processor ms per call")
    return Table(header, rows)


def benchmark(arguments: Sequence[str]) -> int:
    """Measure both loads and write the report."""
    options = parse(arguments)
    image: npt.NDArray[np.uint8] = np.random.default_rng(0).integers(
        0, 256, (1, options.image_size, options.image_size, 3), dtype=np.uint8
    )
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(options.backbone, options.image_size, path)
        sessions = {side: open_side(path, options.threads, spins) for side, spins in SIDES.items()}

        def caller(session: Any) -> Callable[[], object]:
            return lambda: session.run(None, {"images": image})

        found = measure({side: caller(session) for side, session in sessions.items()}, options.rounds, options.seconds)
        found[WORKERS] = measure_workers(path, options)
    return finish(
        Report(
            name=NAME,
            title="onnxruntime's spinning at batch 1",
            settings={
                "backbone": options.backbone,
                "image size": options.image_size,
                "threads": options.threads,
                "rounds": options.rounds,
                "seconds per turn": options.seconds,
                "default of toolkit.load": "spinning" if SPINNING else "sleeping",
            },
            claims=claims(found),
            tables=[table(found)],
            notes=[
                "Median over the rounds, with the smallest and the largest. The sides took turns, each round in "
                f"another order, with {PAUSE_SECONDS} s between them.",
                "Loaded: beside it one process per core that does nothing but compute, at the same priority.",
                f"Workers: {WORKER_COUNT} processes at once, each with as many threads as there are cores, as a "
                "service with several workers is started; all their images together.",
                "`processor ms per call` is what a call took from all cores together, waiting in loops included.",
                "`toolkit.load(..., spinning=True)` spins, which was the only way before; sleeping is the default, "
                "because a service seldom has its cores to itself. Seen once on these two cores, while a dozen other "
                "programs ran that spun too: threads that spun were down to a fifth of those that slept.",
            ],
            measurements={"seconds_per_call": found},
        ),
        options.output,
        arguments,
    )


if __name__ == "__main__":
    main(benchmark)
