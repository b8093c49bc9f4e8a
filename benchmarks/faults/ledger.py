"""What has been judged so far, on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

LEDGER = "cases.jsonl"


@dataclass(frozen=True)
class Case:
    """One artifact that was judged, or one fault that could not be planted."""

    run: str
    backbone: str
    name: str
    """Of the fault; empty for a good artifact."""
    what: str
    format: str
    caught: bool | None
    """None where it was not tried."""
    by: str
    """What caught it; why it was not tried."""
    effect: str = ""
    file: str = ""
    """The broken ONNX file inside the working folder, if it was kept."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same case in another call."""
        return self.run, self.name, self.format


class Ledger:
    """What has been judged so far, one line of JSON each: a benchmark that was stopped goes on where it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self._cases = {case.key: case for case in (Case(**json.loads(line)) for line in lines)}

    def __contains__(self, key: tuple[str, str, str]) -> bool:
        return key in self._cases

    def __iter__(self) -> Iterator[Case]:
        return iter(self._cases.values())

    def add(self, case: Case) -> None:
        """Keep a case; of two of one key the later one counts."""
        self._cases[case.key] = case
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(case)) + "\n")
        verdict = "not tried" if case.caught is None else "caught" if case.caught else "passed"
        print(
            f"  {case.run:24} {case.name or 'good':32} {case.format:12} {verdict}: {case.by} [{case.effect}]",
            flush=True,
        )
