from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_runs import write_finished_run

from toolkit.bundle.manifest import Manifest
from toolkit.errors import RunError
from toolkit.recipe import load_recipe
from toolkit.run_folder import FinishedRun, RunFolder, find_run, find_unfinished, new_run


def finished(root: Path, name: str) -> RunFolder:
    run = new_run(name, root)
    load_recipe("digits").save(run.recipe_file)
    run.record_file.write_text("{}")
    run.make_latest()
    return run


def test_the_newest_run_is_found_without_a_name(tmp_path: Path) -> None:
    finished(tmp_path, "first")
    finished(tmp_path, "second")
    assert find_run(None, tmp_path).name == "second"
    assert find_run("first", tmp_path).path == tmp_path / "first"
    assert find_run("latest", tmp_path).name == "second"
    assert find_run(str(tmp_path / "latest"), Path("elsewhere")).name == "second"


def test_a_run_of_a_version_that_wrote_no_review_has_none(tmp_path: Path) -> None:
    run = finished(tmp_path, "old")
    assert run.review() is None
    run.review_file.write_text("{}")
    with pytest.raises(RunError, match=r"review.json is not what 'toolkit finetune' writes .* run 'toolkit finetune'"):
        run.review()


def test_a_finished_run_is_never_overwritten(tmp_path: Path) -> None:
    finished(tmp_path, "mine")
    with pytest.raises(RunError, match="finished run 'mine'"):
        new_run("mine", tmp_path)


def test_an_unfinished_run_can_be_taken_up_again(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert new_run("mine", tmp_path).path == tmp_path / "mine"


@pytest.mark.parametrize("name", ["", "latest", "../up", "a/b", ".hidden", "with space"])
def test_names_that_are_no_folder_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot name a run"):
        new_run(name, tmp_path)


def test_no_run_yet(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run 'toolkit finetune' first"):
        find_run(None, tmp_path)
    with pytest.raises(RunError, match=r"no run 'x' in .*; run 'toolkit finetune' first"):
        find_run("x", tmp_path / "none")


def test_an_unknown_run_lists_those_there_are(tmp_path: Path) -> None:
    finished(tmp_path, "first")
    finished(tmp_path, "second")
    with pytest.raises(RunError, match="runs there: first, second"):
        find_run("third", tmp_path)


def test_an_incomplete_run_says_what_to_do(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    for read in (run.recipe, run.record, run.evaluation):
        with pytest.raises(RunError, match="run 'toolkit finetune' first"):
            read()


def test_what_is_left_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no unfinished run"):
        find_unfinished(None, tmp_path)
    finished(tmp_path, "done")
    load_recipe("digits").save(tmp_path / "half" / "recipe.toml")
    assert find_unfinished(None, tmp_path).name == find_unfinished("half", tmp_path).name == "half"
    with pytest.raises(RunError, match="the run 'done' is finished"):
        find_unfinished("done", tmp_path)
    with pytest.raises(RunError, match=r"no run 'other' in .*; unfinished runs there: half"):
        find_unfinished("other", tmp_path)


def test_a_run_of_before_there_was_a_choice_of_decoding_decoded_in_full(tmp_path: Path) -> None:
    run = finished(tmp_path, "old")
    assert run.recipe().data.decode == "reduced"
    text = run.recipe_file.read_text(encoding="utf-8")
    run.recipe_file.write_text(text.replace('decode = "reduced"\n', ""), encoding="utf-8")
    assert run.recipe().data.decode == "full"


def test_a_run_of_before_there_was_a_choice_of_gradients_is_read(tmp_path: Path) -> None:
    run = write_finished_run(tmp_path / "old")
    written = json.loads(run.record_file.read_text(encoding="utf-8"))
    del written["instruction_set"], written["depthwise_gradients"]
    run.record_file.write_text(json.dumps(written), encoding="utf-8")
    assert (run.record().instruction_set, run.record().depthwise_gradients) == (None, ())


class TestFinishedRun:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> RunFolder:
        return write_finished_run(tmp_path / "tiny")

    def test_it_is_read_once(self, folder: RunFolder) -> None:
        run = FinishedRun.of(folder)
        assert (run.folder, run.recipe, run.record) == (folder, folder.recipe(), folder.record())
        folder.recipe_file.unlink()
        assert FinishedRun.of(run) is run

    def test_a_run_that_has_not_finished_is_refused_with_how_to_go_on(self, folder: RunFolder) -> None:
        folder.record_file.unlink()
        goes_on = f"'toolkit finetune --resume --run tiny --artifacts {folder.path.parent}'"
        with pytest.raises(RunError, match=f"interrupted .*{goes_on}"):
            FinishedRun.of(folder)
        folder.recipe_file.unlink()
        with pytest.raises(RunError, match=r"recipe\.toml cannot be read .*run 'toolkit finetune' first"):
            FinishedRun.of(folder)

    def test_other_weights_than_its_own_are_refused(self, folder: RunFolder) -> None:
        run = FinishedRun.of(folder)
        run.require_own_weights()
        folder.model_file.write_bytes(b"others")
        with pytest.raises(RunError, match=r"is not the file that run\.json describes: run 'toolkit finetune'"):
            run.require_own_weights()
        folder.model_file.unlink()
        with pytest.raises(RunError, match=r"model\.safetensors is missing: run 'toolkit finetune' again"):
            run.require_own_weights()

    def test_a_bundle_of_other_weights_is_refused(
        self, folder: RunFolder, colour_bundle: Path, colour_manifest: Callable[[Path], Manifest]
    ) -> None:
        run, theirs = FinishedRun.of(folder), colour_manifest(colour_bundle)
        with pytest.raises(RunError, match=r"exported from other weights than .*: run 'toolkit export' again"):
            run.require_exported_weights(theirs)
        origin = theirs.origin.model_copy(update={"model_sha256": run.record.model_sha256})
        run.require_exported_weights(theirs.model_copy(update={"origin": origin}))
