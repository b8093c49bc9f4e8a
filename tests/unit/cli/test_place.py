"""A run or a bundle, as an argument or with --run, for all commands alike; and what comes next."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pointed_at import write_whole_run

from toolkit.cli.main import COMMANDS
from toolkit.cli.place import find_place
from toolkit.errors import RunError, ToolkitError
from toolkit.recipe import Recipe
from toolkit.run_folder import RunFolder

Run = Callable[..., tuple[int, str, str]]
ARTIFACTS = Path("artifacts")
POINTED = ("export", "verify", "bench", "report", "predict", "inspect", "selftest", "card", "sign", "pack")
"""Commands that take a run or a bundle."""
OTHERS = {"run", "finetune", "compare", "keygen", "unpack", "push", "pull"}
OTHERS |= {"batch", "serve", "deploy", "backbones", "formats", "recipes", "cache", "runs", "doctor"}


@pytest.fixture
def tiny(here: Path, colour_bundle: Path) -> RunFolder:
    """The newest run, in ``artifacts``; the folder above it is the current one."""
    return write_whole_run(ARTIFACTS, colour_bundle)


def interrupted(name: str, age: float = 0.0) -> RunFolder:
    """Leave what a killed fine-tuning leaves, so many seconds before now."""
    run = RunFolder(ARTIFACTS / name)
    Recipe().save(run.recipe_file)
    if age:
        os.utime(run.recipe_file, (run.recipe_file.stat().st_mtime - age,) * 2)
    return run


@pytest.mark.parametrize(
    "given", ["tiny", "latest", "artifacts/tiny", "artifacts/latest", "./artifacts/tiny/", "~/tiny"]
)
@pytest.mark.parametrize("how", ["argument", "--run", "both"])
def test_a_run_is_found_by_name_or_folder_either_way(
    tiny: RunFolder, given: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(ARTIFACTS.resolve()))
    place = find_place(given if how != "--run" else None, given if how != "argument" else None, ARTIFACTS)
    assert place.run is not None
    assert (place.run.name, place.path.resolve()) == ("tiny", tiny.path.resolve())
    assert place.bundle.resolve() == tiny.bundle.resolve()
    assert place.finished_run("it is needed").record == tiny.record()


def test_the_newest_run_is_meant_where_nothing_is_given(tiny: RunFolder) -> None:
    place = find_place(None, None, ARTIFACTS)
    assert place.run is not None
    assert place.run.path == tiny.path


def test_a_bundle_is_a_bundle_wherever_it_lies(tiny: RunFolder) -> None:
    shutil.copytree(tiny.bundle, "release/bundle")
    shutil.copytree(tiny.bundle, "bare")
    for given, bundle in (("artifacts/latest/bundle", tiny.bundle), ("release", "release/bundle"), ("bare", "bare")):
        for place in (find_place(given, None, ARTIFACTS), find_place(None, given, ARTIFACTS)):
            assert place.run is None
            assert place.bundle.resolve() == Path(bundle).resolve()
    assert find_place("artifacts/latest/bundle", None, ARTIFACTS).finished_run("?").folder.name == "latest"
    for given in ("release", "bare"):
        with pytest.raises(RunError, match="is a bundle, and export makes bundles of runs: give the run that it is fr"):
            find_place(given, None, ARTIFACTS).finished_run("export makes bundles of runs")


def test_a_run_and_its_own_bundle_are_the_same_and_the_run_is_meant(tiny: RunFolder) -> None:
    place = find_place("artifacts/tiny/bundle", "tiny", ARTIFACTS)
    assert place.run is not None


def test_two_that_differ_are_refused(tiny: RunFolder) -> None:
    shutil.copytree(tiny.bundle, "bare")
    with pytest.raises(ToolkitError, match=r"^bare and --run tiny are not the same: give one of them"):
        find_place("bare", "tiny", ARTIFACTS)


def test_a_name_that_means_two_things_is_refused_and_a_path_means_one(tiny: RunFolder) -> None:
    shutil.copytree(tiny.bundle, "tiny")
    with pytest.raises(
        ToolkitError, match=r"'tiny' is a run in artifacts and a folder here: write artifacts/tiny or \./"
    ):
        find_place("tiny", None, ARTIFACTS)
    assert find_place("./tiny", None, ARTIFACTS).run is None
    assert find_place("artifacts/tiny", None, ARTIFACTS).run is not None


@pytest.mark.parametrize("command", POINTED)
def test_every_command_says_the_same_of_what_is_not_there(run: Run, tiny: RunFolder, command: str) -> None:
    more = {"predict": ["photo.png"], "sign": ["--key", "ours.pem"]}.get(command, [])
    Path("photo.png").touch()
    sentence = (
        "toolkit: there is no nope. Give the folder that 'toolkit export' wrote, or a run; runs in artifacts: tiny.\n"
    )
    assert run(command, "nope", *more) == run(command, "--run", "nope", *more) == (2, "", sentence)


def test_every_command_takes_a_place_or_is_known_not_to(run: Run) -> None:
    assert set(COMMANDS) == set(POINTED) | OTHERS
    for command in POINTED:
        said = run(command, "--help")[1]
        assert "RUN|BUNDLE" in said
        assert "--run" in said
        assert "--artifacts" in said


@pytest.mark.parametrize("command", ["inspect", "selftest", "card", "pack", "verify"])
def test_what_needs_only_a_bundle_takes_a_run_a_bundle_or_nothing(run: Run, tiny: RunFolder, command: str) -> None:
    ways: list[list[str]] = [["artifacts/tiny/bundle"], ["--run", "artifacts/tiny/bundle"]]
    if command != "verify":  # of a run it compares with PyTorch
        ways += [["tiny"], ["artifacts/latest"], ["--run", "tiny"], []]
    for way in ways:
        code, out, err = run(command, *way)
        assert (code, err) == (0, "")
        assert out


def test_predict_takes_images_after_the_place_or_with_it_named(
    run: Run, tiny: RunFolder, colour_image: Callable[[str], np.ndarray]
) -> None:
    for name in ("a", "b"):
        Image.fromarray(colour_image("red")).save(f"{name}.png")
    expected = run("predict", "artifacts/latest", "a.png", "b.png")
    assert expected[0] == 0
    assert expected[1].startswith("a.png  red")
    for way in (
        ["tiny", "a.png", "b.png"],
        ["--run", "tiny", "a.png", "b.png"],
        ["tiny", "--run", "tiny", "a.png", "b.png"],
    ):
        assert run("predict", *way) == expected
    assert run("predict", "artifacts/tiny/bundle", "--run", "other", "a.png")[0] == 2


def test_verify_says_first_what_it_compares_with(run: Run, tiny: RunFolder) -> None:
    bundle = run("verify", "artifacts/latest/bundle", "--quiet", "--threads", 1)[1]
    assert bundle.splitlines()[0] == (
        "bundle artifacts/latest/bundle: comparing with its own golden samples, not with PyTorch (give the run, "
        "artifacts/latest, for that)"
    )
    shutil.copytree(tiny.bundle, "bare")
    alone = run("verify", "bare", "--quiet", "--threads", 1)[1]
    assert alone.splitlines()[0] == "bundle bare: comparing with its own golden samples, not with PyTorch"
    against = run("verify", "tiny", "--against", "bare", "--quiet", "--threads", 1)[1]
    assert against.splitlines()[0] == "artifacts/tiny/bundle: comparing with the bundle bare"


def test_a_run_is_judged_as_a_run_however_it_is_given(
    run: Run, tiny: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(finished: object, **_: object) -> None:
        raise ToolkitError(f"judged as the run {finished.folder.name}.")  # type: ignore[attr-defined]

    monkeypatch.setattr("toolkit.verify.run.verify_run", judged)
    for way in (["artifacts/latest"], ["tiny"], ["--run", "artifacts/tiny"], []):
        code, out, err = run("verify", *way)
        assert (code, err) == (2, "loading PyTorch ...\ntoolkit: judged as the run tiny.\n")
        assert out == (
            "run artifacts/tiny: comparing with PyTorch and the weights of the run, on 512 of its test images (all, if "
            "it has fewer)\n"
        )


class TestWhatComesNext:
    @pytest.mark.parametrize("command", [name for name in POINTED if name != "predict"])
    @pytest.mark.parametrize(
        "how", [[], ["half"], ["--run", "artifacts/half"], ["latest"], ["artifacts/latest"]], ids=" ".join
    )
    def test_an_interrupted_run_can_be_resumed(self, run: Run, here: Path, command: str, how: list[str]) -> None:
        interrupted("half")
        more = ["--key", "ours.pem"] if command == "sign" else []
        assert run(command, *how, *more) == (
            2,
            "",
            "toolkit: the run 'half' was interrupted before fine-tuning had finished (or is still running): go on with "
            "'toolkit finetune --resume --run half'.\n",
        )

    def test_of_another_folder_the_command_line_names_it(self, run: Run, here: Path) -> None:
        Recipe().save(Path("my runs") / "half" / "recipe.toml")
        said = run("export", "--artifacts", "my runs")[2]
        assert "go on with 'toolkit finetune --resume --run half --artifacts 'my runs''" in said

    def test_an_older_run_is_taken_and_the_interrupted_one_said(self, run: Run, tiny: RunFolder) -> None:
        interrupted("older", age=3600)
        assert run("inspect")[2] == ""
        os.utime(tiny.record_file, (1, 1))
        interrupted("half")
        code, _, err = run("inspect")
        assert code == 0
        assert err == (
            "toolkit: taking 'tiny'; the run 'half', started after it, was interrupted (or is still running): 'toolkit "
            "finetune --resume --run half' goes on with it.\n"
        )
        assert run("inspect", "tiny")[2] == ""

    @pytest.mark.parametrize("command", [name for name in POINTED if name not in ("export", "predict")])
    def test_before_export_comes_export(self, run: Run, tiny: RunFolder, command: str) -> None:
        shutil.rmtree(tiny.bundle)
        tiny.bench_file.unlink()
        more = ["--key", "ours.pem"] if command == "sign" else []
        sentence = "toolkit: the run 'tiny' has no bundle yet: run 'toolkit export --run tiny' first.\n"
        assert run(command, *more) == run(command, "artifacts/tiny", *more) == (2, "", sentence)

    def test_predict_too(self, run: Run, tiny: RunFolder) -> None:
        Path("photo.png").touch()
        interrupted("half")
        assert "go on with 'toolkit finetune --resume --run half'" in run("predict", "half", "photo.png")[2]
        shutil.rmtree(tiny.bundle)
        assert "run 'toolkit export --run tiny' first" in run("predict", "tiny", "photo.png")[2]

    def test_before_a_report_comes_bench(self, run: Run, tiny: RunFolder) -> None:
        tiny.bench_file.unlink()
        sentence = "toolkit: the run 'tiny' was not measured yet: run 'toolkit bench --run tiny' first.\n"
        assert run("report") == (2, "", sentence)

    def test_no_run_at_all(self, run: Run, here: Path) -> None:
        for command in ("export", "verify", "bench", "report", "inspect"):
            assert run(command) == (
                2,
                "",
                "toolkit: there is no run in artifacts yet: run 'toolkit finetune' first, or name a run with --run.\n",
            )

    def test_an_empty_artifacts_folder_and_one_that_is_a_file(self, run: Run, here: Path) -> None:
        ARTIFACTS.mkdir()
        assert "there is no run in artifacts yet: run 'toolkit finetune' first" in run("export")[2]
        assert "artifacts is neither a run" in run("export", "artifacts")[2]
        ARTIFACTS.rmdir()
        ARTIFACTS.touch()
        assert "there is no run in artifacts yet" in run("export")[2]


class TestLatest:
    """What can become of the link to the newest run."""

    def test_it_points_to_nothing(self, run: Run, tiny: RunFolder) -> None:
        shutil.move(tiny.path, ARTIFACTS / "moved")
        for way in ([], ["latest"], ["artifacts/latest"], ["--run", "latest"]):
            code, out, err = run("inspect", *way)
            assert (code, out) == (2, "")
            assert "artifacts/latest points to " in err
            assert (
                "which is not there (was the run moved or removed?): name a run with --run; runs there: moved." in err
            )
        assert run("inspect", "moved")[0] == 0

    def test_it_is_missing(self, run: Run, tiny: RunFolder) -> None:
        (ARTIFACTS / "latest").unlink()
        assert run("inspect")[2] == (
            "toolkit: artifacts/latest is missing, which points to the newest run: name a run with --run; runs there: "
            "tiny.\n"
        )

    def test_it_points_to_itself(self, run: Run, tiny: RunFolder) -> None:
        (ARTIFACTS / "latest").unlink()
        (ARTIFACTS / "latest").symlink_to("latest")
        code, out, err = run("inspect")
        assert (code, out) == (2, "")
        assert "artifacts/latest" in err
        assert "runs there: tiny." in err

    @pytest.mark.parametrize("content", ["", "nowhere", "\0", "\udcff", "tiny\nmore"])
    def test_it_is_a_file_with_something_else(self, run: Run, tiny: RunFolder, content: str) -> None:
        (ARTIFACTS / "latest").unlink()
        (ARTIFACTS / "latest").write_bytes(content.encode(errors="surrogateescape"))
        for way in ([], ["latest"]):
            code, out, err = run("inspect", *way)
            assert (code, out) == (2, "")
            assert "artifacts/latest" in err
            assert len(err.splitlines()) == 1

    def test_it_is_a_file_as_where_there_are_no_links(self, run: Run, tiny: RunFolder) -> None:
        (ARTIFACTS / "latest").unlink()
        (ARTIFACTS / "latest").write_text("tiny")
        for way in ([], ["latest"], ["artifacts/latest"]):
            assert run("inspect", *way)[0] == 0

    def test_it_is_a_folder(self, run: Run, tiny: RunFolder) -> None:
        (ARTIFACTS / "latest").unlink()
        (ARTIFACTS / "latest").mkdir()
        code, out, err = run("inspect")
        assert (code, out) == (2, "")
        assert "artifacts/latest" in err


def test_moved_images_are_said_with_what_to_do(run: Run, tiny: RunFolder) -> None:
    photos = Path("photos")
    tiny.recipe().override({"data.source": str(photos.resolve())}).save(tiny.recipe_file)
    sentence = (
        f"toolkit: the images of the run 'tiny' are not at {photos.resolve()} any more: put them back, or write where "
        "they are now into artifacts/tiny/recipe.toml, as source under [data].\n"
    )
    for command in ("export", "verify", "bench"):
        assert run(command) == (2, "", sentence)


def test_a_moved_run_is_still_a_run(run: Run, tiny: RunFolder) -> None:
    shutil.move(tiny.path, "elsewhere")
    code, out, _ = run("inspect", "elsewhere", "--json")
    assert code == 0
    assert json.loads(out)["name"] == "colours"
    assert run("report", "elsewhere")[0] == 0
