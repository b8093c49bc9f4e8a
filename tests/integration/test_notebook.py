"""The notebook of the documentation is executed as it is, by a kernel of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, ROOT

nbformat = pytest.importorskip("nbformat", reason="nbclient and ipykernel are not installed")
NOTEBOOK = DOCS / "notebook.ipynb"


def outputs(cell: Any, kind: str) -> list[str]:
    """What a cell shows in one form, in order."""
    return [output["data"][kind] for output in cell.get("outputs", ()) if kind in output.get("data", {})]


def cell_of(notebook: Any, code: str) -> Any:
    (found,) = [cell for cell in notebook.cells if cell.cell_type == "code" and code in cell.source]
    return found


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    nbclient = pytest.importorskip("nbclient", reason="nbclient and ipykernel are not installed")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        # The kernel imports this repository, wherever it works.
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        client = nbclient.NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )
        client.execute()
    notebook.metadata["folder"] = str(folder)
    return notebook


def test_it_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")] == []
    assert NOTEBOOK.stat().st_size < 20_000


@pytest.mark.slow
class TestExecuted:
    def test_it_warns_of_nothing(self, executed: Any) -> None:
        printed = [output for cell in executed.cells for output in cell.get("outputs", ()) if "text" in output]
        assert printed == []

    def test_progress_is_one_output_that_ends_without_a_bar(self, executed: Any) -> None:
        cell = cell_of(executed, "toolkit.finetune(")
        progress, card = outputs(cell, "text/html")
        assert "stage 2 epoch 6/6: train loss" in progress
        assert "<progress" not in progress
        assert "right on 120 test images" in card
        assert card.count("data:image/png") == 2

    def test_each_step_shows_what_it_found(self, executed: Any) -> None:
        for code, shown in (
            ('run.export("onnx")', "not verified"),
            ("run.verify()", "parity with torch"),
            ("run.bench(", "channels_last"),
            ("toolkit.runs()", "passed"),
        ):
            assert shown in outputs(cell_of(executed, code), "text/html")[-1], code

    def test_the_prediction_is_right(self, executed: Any) -> None:
        (shown,) = outputs(cell_of(executed, "predictor.predict("), "text/plain")
        label, probability = shown.strip("()").split(", ")
        assert label == "'3'"
        assert 0 < float(probability) <= 1

    def test_what_it_shows_is_small(self, executed: Any) -> None:
        for cell in executed.cells:
            assert all(len(shown) < 300_000 for shown in outputs(cell, "text/html"))

    def test_it_leaves_what_the_commands_leave(self, executed: Any) -> None:
        run = Path(executed.metadata["folder"], "artifacts", "digits")
        assert {"run.json", "bundle", "verify", "bench", "history.csv"} <= {path.name for path in run.iterdir()}
        assert (run / "bench" / "report.md").exists()
