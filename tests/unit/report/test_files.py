"""Writing the report of a run."""

import pytest

from toolkit.errors import RunError
from toolkit.report import canvas, write_pictures, write_report
from toolkit.run_folder import RunFolder


def test_from_all_records(tmp_path, bench, parity, evaluation):
    run = RunFolder(tmp_path / "digits-1")
    bench.save(run.bench_file)
    parity.save(run.parity_file)
    evaluation.save(run.evaluation_file)
    assert write_report(run) == [run.bench / "bench.csv", run.bench / "report.md", run.report_file]
    assert (run.bench / "bench.csv").read_text(encoding="utf-8").startswith("run,name,device")
    text = (run.bench / "report.md").read_text(encoding="utf-8")
    assert "## Parity" in text
    assert "## Accuracy" in text
    assert sorted(path.name for path in run.bench.iterdir()) == ["bench.csv", "bench.json", "report.html", "report.md"]
    assert run.report_file.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_from_the_benchmark_alone(tmp_path, bench):
    run = RunFolder(tmp_path / "digits-1")
    bench.save(run.bench_file)
    write_report(run)
    assert "## Parity" not in (run.bench / "report.md").read_text(encoding="utf-8")


def test_without_a_benchmark(tmp_path):
    with pytest.raises(RunError, match=r"bench\.json cannot be read .*run 'toolkit bench' first"):
        write_report(RunFolder(tmp_path / "digits-1"))


def test_a_malformed_record_is_not_left_out_silently(tmp_path, bench):
    run = RunFolder(tmp_path / "digits-1")
    bench.save(run.bench_file)
    run.verify.mkdir()
    run.parity_file.write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match=r"parity\.json"):
        write_report(run)
    assert not (run.bench / "report.md").exists()


def test_pictures_of_a_fine_tuned_run(tmp_path, evaluation, run_record):
    run = RunFolder(tmp_path / "digits-1")
    evaluation.save(run.evaluation_file)
    run_record(best=(1, 1)).save(run.record_file)
    header = "stage,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,head_lr,backbone_lr,seconds\n"
    run.history_file.write_text(header + "1,1,2.0,0.3,1.9,0.4,0.001,0,1\n", encoding="utf-8")
    files = write_pictures(run)
    assert [file.name for file in files] == ["learning_curves.png", "confusion.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_the_epoch_that_is_ringed_is_the_one_that_was_kept(tmp_path, evaluation, run_record, monkeypatch):
    """Of two with the same accuracy the lower loss decides (``toolkit.training.checkpoint.Best``): it is the second."""
    titles = []
    monkeypatch.setattr(canvas, "save", lambda figure, target: titles.extend(a.get_title("right") for a in figure.axes))
    run = RunFolder(tmp_path / "digits-1")
    evaluation.save(run.evaluation_file)
    run_record(best=(2, 2)).save(run.record_file)
    header = "stage,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,head_lr,backbone_lr,seconds\n"
    rows = ("1,1,2.0,0.3,1.9,0.4,0.001,0,1", "2,1,1.0,0.9,0.5,0.9,0.001,0,1", "2,2,0.9,0.9,0.4,0.9,0.001,0,1")
    run.history_file.write_text(header + "\n".join(rows) + "\n", encoding="utf-8")
    write_pictures(run)
    assert "best 90.0%, stage 2 epoch 2" in titles


def test_pictures_of_a_run_that_was_not_evaluated(tmp_path):
    with pytest.raises(RunError):
        write_pictures(RunFolder(tmp_path / "digits-1"))
