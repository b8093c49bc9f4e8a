"""Made-up reports, as the tests of the reports have them, and a finished run."""

from pathlib import Path

import pytest
from finished_runs import write_finished_run
from once import made_once

from tests.unit.report.conftest import bench, parity

__all__ = ["bench", "parity"]


@pytest.fixture(scope="session")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, ``mine``; made once, to be copied."""

    def make(folder: Path) -> None:
        write_finished_run(folder / "mine")

    return made_once(tmp_path_factory, "one-run", make)
