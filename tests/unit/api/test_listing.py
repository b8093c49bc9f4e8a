from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from toolkit.api.listing import (
    RunSummary,
    age,
    data_text,
    delete_run,
    find_deletable,
    list_runs,
    runs_table,
    size_of,
    summarise,
)
from toolkit.bundle import read_manifest
from toolkit.bundle.manifest import ParityVerdict
from toolkit.bundle.writer import write_manifest
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import RunError
from toolkit.files import only_writer, point_link
from toolkit.run_folder import RunFolder


@pytest.fixture
def root(one_run: Path, tmp_path: Path) -> Path:
    """A folder of runs with one finished run, ``mine``, that is the newest one."""
    shutil.copytree(one_run, tmp_path / "artifacts")
    RunFolder(tmp_path / "artifacts" / "mine").make_latest()
    return tmp_path / "artifacts"


def copied(root: Path, name: str, **changes: object) -> RunFolder:
    """Another run in the same folder; ``changes`` are of its record."""
    shutil.copytree(root / "mine", root / name)
    run = RunFolder(root / name)
    run.record().model_copy(update=changes).save(run.record_file)
    return run


def later(root: Path, name: str, days: int) -> RunFolder:
    provenance = RunFolder(root / "mine").record().provenance
    created = datetime.fromisoformat(provenance.created) + timedelta(days=days)
    return copied(root, name, provenance=provenance.model_copy(update={"created": created.isoformat()}))


def names(root: Path) -> list[str]:
    return [summary.name for _, summary in list_runs(root)]


def test_a_finished_run_in_brief(root: Path) -> None:
    summary = summarise(RunFolder(root / "mine"))
    evaluation = RunFolder(root / "mine").evaluation()
    assert (summary.state, summary.problem, summary.data, summary.classes) == ("finished", None, "digits", 10)
    assert (summary.backbone, summary.test_images) == ("torchvision:squeezenet1_1", 20)
    assert (summary.accuracy, summary.accuracy_interval) == (evaluation.top1, evaluation.top1_interval)
    assert (summary.artifacts, summary.verified) == ((), None)
    assert summary.size_bytes == sum(file.stat().st_size for file in (root / "mine").rglob("*") if file.is_file())
    assert RunSummary.from_json(summary.to_json()) == summary


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [((None, None), "no"), ((True, None), "partly"), ((True, True), "passed"), ((True, False), "failed")],
)
def test_the_verdicts_of_all_artifacts_together(
    root: Path, colour_bundle: Path, verdicts: tuple[bool | None, ...], said: str
) -> None:
    shutil.copytree(colour_bundle, root / "mine" / "bundle")
    manifest = read_manifest(colour_bundle)
    verdict = ParityVerdict(
        passed=True,
        failures=(),
        device="cpu",
        test_images=1,
        max_absolute_logits=0.0,
        top1_agreement=1.0,
        tolerance=TOLERANCES["float32"],
        verified="2026-01-01T00:00:00+00:00",
    )
    artifacts = tuple(
        manifest.artifacts[0].model_copy(
            update={
                "format": f"onnx-{number}",
                "file": f"{number}.onnx",
                "parity": None if passed is None else verdict.model_copy(update={"passed": passed}),
            }
        )
        for number, passed in enumerate(verdicts)
    )
    for artifact in artifacts:
        shutil.copy(colour_bundle / "model.onnx", root / "mine" / "bundle" / artifact.file)
    write_manifest(root / "mine" / "bundle", manifest.model_copy(update={"artifacts": artifacts}))
    summary = summarise(RunFolder(root / "mine"))
    assert summary.problem is None
    assert summary.verified == said
    assert [artifact.verified for artifact in summary.artifacts] == list(verdicts)
    assert summary.artifacts[0].format == "onnx-0"


def test_the_newest_comes_first(root: Path) -> None:
    later(root, "a-new", days=2)
    later(root, "z-old", days=-2)
    assert names(root) == ["a-new", "mine", "z-old"]


def test_a_folder_that_is_not_there_has_no_runs(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "none") == []


def test_what_is_no_run_is_not_listed(root: Path) -> None:
    (root / "notes").mkdir()
    (root / "file").touch()
    (root / ".mine.0.deleted").mkdir()
    (root / ".mine.0.deleted" / "run.json").touch()
    assert names(root) == ["mine"]


@pytest.mark.skipif(os.name != "posix", reason="folders are not locked there")
def test_what_is_running_is_listed_as_such(root: Path) -> None:
    run = RunFolder(root / "mine")

    def cells() -> tuple[str, ...]:
        (line,) = runs_table([summarise(run)], datetime.now(UTC)).lines
        return line.cells

    with run.only_writer():
        assert cells()[-1] == "running"
        assert "%" in cells()[3]
        run.record_file.unlink()
        assert cells()[3] == "training"
    assert cells()[3] == "unfinished"
    assert cells()[-1] != "running"


def test_an_unfinished_run_is_listed_as_such(root: Path) -> None:
    (root / "mine" / "run.json").unlink()
    summary = summarise(RunFolder(root / "mine"))
    assert (summary.state, summary.problem, summary.accuracy) == ("unfinished", None, None)
    assert (summary.data, summary.backbone) == ("digits", "torchvision:squeezenet1_1")


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:40])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a cut record": (lambda run: _cut(run / "run.json"), "run.json"),
    "a cut recipe": (lambda run: _cut(run / "recipe.toml"), "recipe.toml"),
    "no recipe": (lambda run: (run / "recipe.toml").unlink(), "recipe.toml cannot be read"),
    "no evaluation": (lambda run: (run / "evaluation.json").unlink(), "evaluation.json cannot be read"),
    "a record that is a folder": (
        lambda run: ((run / "run.json").unlink(), (run / "run.json").mkdir()),
        "run.json cannot be read",
    ),
    "a record that leads nowhere": (
        lambda run: ((run / "run.json").unlink(), (run / "run.json").symlink_to("nowhere")),
        "run.json cannot be read",
    ),
    "a manifest that is none": (
        lambda run: ((run / "bundle").mkdir(), (run / "bundle" / "manifest.json").write_text("{")),
        "manifest.json",
    ),
    "a recipe that is no text": (lambda run: (run / "recipe.toml").write_bytes(b"\xff\xfe"), "is no text"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_listed_with_what_is_wrong(root: Path, name: str) -> None:
    damage, said = DAMAGE[name]
    later(root, "good", days=1)
    damage(root / "mine")
    assert sorted(names(root)) == ["good", "mine"]
    summary = summarise(RunFolder(root / "mine"))
    assert summary.state == "damaged"
    assert said in str(summary.problem)
    assert summary.size_bytes > 0


def test_the_table_has_a_line_a_run(root: Path) -> None:
    (_, summary), *_ = list_runs(root)
    now = datetime.fromisoformat(summary.written) + timedelta(minutes=5)
    table = runs_table([summary], now)
    cells = dict(zip([column.header for column in table.columns], table.lines[0].cells, strict=True))
    assert cells["name"] == "mine"
    assert cells["accuracy [95%]"].startswith(f"{summary.accuracy:.1%} [")
    assert (cells["artifacts"], cells["verified"], cells["age"]) == ("-", "-", "5 min")
    assert cells["size"].endswith(" MB")


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        (timedelta(seconds=59), "now"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=119), "1 h"),
        (timedelta(hours=49), "2 d"),
        (timedelta(days=-1), "now"),
    ],
)
def test_the_age_is_in_the_largest_unit(passed: timedelta, said: str) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert age((now - passed).isoformat(), now) == said


def test_of_a_path_the_last_part_is_shown(root: Path) -> None:
    summary = summarise(RunFolder(root / "mine"))
    shown = {source: data_text(summary.model_copy(update={"data": source})) for source in ("/a/photos/", "digits", "/")}
    assert shown == {"/a/photos/": "photos", "digits": "digits", "/": "/"}


class TestDeleting:
    def test_a_run_is_gone_with_all_its_files_and_latest_leads_to_the_next_newest(self, root: Path) -> None:
        later(root, "older", days=-1)
        later(root, "oldest", days=-2)
        (root / "mine" / "checkpoints").mkdir()
        (root / "mine" / "checkpoints" / "file").write_bytes(bytes(1000))
        size = size_of(root / "mine")
        assert delete_run(RunFolder(root / "mine")) == size
        assert sorted(path.name for path in root.iterdir()) == ["latest", "older", "oldest"]
        assert (root / "latest").resolve() == (root / "older").resolve()

    def test_latest_stays_where_another_run_is_deleted(self, root: Path) -> None:
        delete_run(later(root, "other", days=1))
        assert (root / "latest").resolve() == (root / "mine").resolve()

    def test_latest_never_leads_to_an_unfinished_run(self, root: Path) -> None:
        (copied(root, "unfinished").record_file).unlink()
        delete_run(RunFolder(root / "mine"))
        assert sorted(path.name for path in root.iterdir()) == ["unfinished"]

    def test_latest_may_be_a_text_file(self, root: Path) -> None:
        later(root, "older", days=-1)
        (root / "latest").unlink()
        (root / "latest").write_text("mine")
        delete_run(RunFolder(root / "mine"))
        assert (root / "latest").resolve() == (root / "older").resolve()

    def test_what_a_killed_process_left_goes_too(self, root: Path) -> None:
        (root / ".other.12345678.deleted").mkdir()
        (root / ".other.12345678.deleted" / "model.safetensors").touch()
        delete_run(RunFolder(root / "mine"))
        assert list(root.iterdir()) == []

    def test_a_link_inside_is_removed_and_not_followed(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "a.jpg").touch()
        (root / "mine" / "photos").symlink_to(tmp_path / "photos")
        delete_run(RunFolder(root / "mine"))
        assert (tmp_path / "photos" / "a.jpg").exists()

    def test_a_run_that_is_being_written_stays(self, root: Path) -> None:
        with only_writer(root / "mine"), pytest.raises(RunError, match="another process is writing the run 'mine'"):
            delete_run(RunFolder(root / "mine"))
        assert names(root) == ["mine"]
        assert (root / "mine" / "model.safetensors").exists()

    @pytest.mark.skipif(os.name != "posix", reason="folders are not locked there")
    @pytest.mark.parametrize("between_stages", [False, True])
    def test_a_run_that_a_process_works_on_is_refused_before_anybody_is_asked(
        self, root: Path, between_stages: bool
    ) -> None:
        run = RunFolder(root / "mine")
        with run.whole_job() if between_stages else run.only_writer():
            with pytest.raises(RunError, match="nothing was deleted: mine is being written by a process: stop that"):
                find_deletable(["mine"], root)
            with pytest.raises(RunError, match="another process is writing the run 'mine': wait for it to end"):
                delete_run(run)
            assert summarise(run).running
        assert not summarise(run).running
        assert names(root) == ["mine"]

    def test_a_name_or_a_path_into_the_folder_is_taken_once(self, root: Path) -> None:
        assert [run.path for run in find_deletable(["mine"], root)] == [root / "mine"]
        assert [run.path for run in find_deletable([str(root / "mine"), f"{root}/mine/"], root)] == [root / "mine"]

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("latest", "'latest' only points to the newest run"),
            ("nothing", "nothing is no run in"),
            ("notes", "notes is no run in"),
            (".", "does not lie in"),
            ("..", "does not lie in"),
            ("/", "does not lie in"),
            ("mine/..", "does not lie in"),
            ("elsewhere/mine", "does not lie in"),
            ("linked", "is a link to"),
            (".mine.0.deleted", "is no run in"),
            ("no\x1b[31mname", r"no\\x1b\[31mname is no run"),
        ],
    )
    def test_anything_else_is_refused_and_nothing_is_deleted(self, root: Path, name: str, said: str) -> None:
        (root / "notes").mkdir()
        outside = root.parent / "outside"
        shutil.copytree(root / "mine", outside)
        point_link(root / "linked", outside)
        with pytest.raises(RunError, match=said) as refused:
            find_deletable(["mine", name], root)
        assert str(refused.value).startswith("nothing was deleted: ")
        assert "runs there: linked, mine." in str(refused.value)
        assert (root / "mine" / "run.json").exists()
        assert (outside / "run.json").exists()
