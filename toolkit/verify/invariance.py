"""What must not change the outputs of an image.

Its place in the batch, its neighbours, the calls before, the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable

from toolkit.bundle.manifest import InputContract
from toolkit.compare.consistency import Difference, difference, inconsistency
from toolkit.compare.verdict import Outputs
from toolkit.formats.base import Session
from toolkit.results import Tolerance
from toolkit.verify.candidate import Checks, open_session, run_outputs
from toolkit.verify.expected import Expected
from toolkit.verify.inputs import MAIN_BATCH

PROBES = 8
"""Images that are moved through batches: of the first eight drawn, as many classes as there are."""
REPEATS = 3


class Invariance:
    """Runs the checks of one opened artifact against what it said itself."""

    def __init__(
        self, session: Session, contract: InputContract, own: Expected, tolerance: Tolerance, checks: Checks
    ) -> None:
        """Take what the artifact said of all inputs at ``MAIN_BATCH`` as ``own``."""
        self._session = session
        self._contract = contract
        self._own = own
        self._tolerance = tolerance
        self._checks = checks
        self._probes = tuple(range(min(PROBES, len(own.names))))
        self._others = tuple(range(len(own.names)))[::-1][: len(self._probes)]

    def _run(self, rows: tuple[int, ...], session: Session | None = None) -> Outputs:
        return run_outputs(session or self._session, self._contract, self._own.images[list(rows)])

    def _from_own(self, rows: tuple[int, ...], outputs: Outputs) -> Difference:
        return difference([self._own.names[row] for row in rows], self._own.rows(rows), outputs)

    def batches(self) -> None:
        """Move images through batches.

        Reversed, turned, alone among copies of themselves, among the most unlike neighbours there are.
        """
        probes = self._probes
        middle = len(probes) // 2
        arrangements = {
            "when the batch is reversed": probes[::-1],
            "when the batch is turned": probes[middle:] + probes[:middle],
            "among other neighbours": tuple(row for pair in zip(self._others, probes, strict=True) for row in pair),
            "among copies of itself": (probes[0],) * len(probes),
        }
        with self._checks.check("batch invariance") as finding:
            worst = 0.0
            for what, rows in arrangements.items():
                deviation = self._from_own(rows, self._run(rows))
                finding.failures += inconsistency(deviation, self._tolerance, what)
                worst = max(worst, deviation.error)
            finding.detail = f"{len(arrangements)} arrangements of {len(probes)} images, largest difference {worst:.1e}"

    def repeats(self) -> bool:
        """Run one batch again and again; return whether every bit was the same.

        Engines promise no bits across runs, so a difference is recorded, and a failure only beyond the tolerance.
        """
        rows = tuple(range(min(MAIN_BATCH, len(self._own.names))))
        names = [self._own.names[row] for row in rows]
        bitwise = False
        with self._checks.check("repeated runs") as finding:
            first = self._run(rows)
            again = [difference(names, first, self._run(rows)) for _ in range(REPEATS - 1)]
            bitwise = all(repeat.bitwise for repeat in again)
            worst = max(again, key=lambda repeat: repeat.error)
            finding.failures += inconsistency(worst, self._tolerance, "when the same batch is run again")
            finding.detail = f"{REPEATS} runs of {len(rows)} images, " + (
                "the same bits" if bitwise else f"not the same bits ({worst.error:.1e})"
            )
        return bitwise

    def state(self) -> None:
        """Run A, B, A, with the darkest and the brightest input as B: what was kept of B shows in the second A."""
        brightness = self._own.images.mean(axis=(1, 2, 3))
        extremes = {int(brightness.argmin()), int(brightness.argmax())}
        with self._checks.check("state between calls") as finding:
            names = [self._own.names[row] for row in self._probes]
            before = self._run(self._probes)
            again = []
            for extreme in sorted(extremes):
                self._run((extreme,))
                again.append(difference(names, before, self._run(self._probes)))
            worst = max(again, key=lambda repeat: repeat.error)
            finding.failures += inconsistency(worst, self._tolerance, "after other images were run in between")
            finding.detail = f"A, B, A with {len(self._probes)} images, largest difference {worst.error:.1e}"

    def threads(self, opened: Callable[[int], Session], counts: tuple[int, ...]) -> None:
        """Open the artifact with other numbers of threads and run one batch on each."""
        rows = tuple(range(min(MAIN_BATCH, len(self._own.names))))
        with self._checks.check("threads") as finding:
            worst = 0.0
            for count in counts:
                session = open_session(opened, count)
                for part in (rows, rows[:1]):
                    deviation = self._from_own(part, self._run(part, session))
                    finding.failures += inconsistency(
                        deviation, self._tolerance, f"with {count} {'thread' if count == 1 else 'threads'}"
                    )
                    worst = max(worst, deviation.error)
            finding.detail = (
                f"{', '.join(map(str, counts))} beside {self._session.threads}, largest difference {worst:.1e}"
            )
