"""The arithmetic, the subsets and the verdicts of the benchmarks, and one small run of the baseline."""

import importlib.util
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.compare.metrics import wilson_interval

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up, and the scripts import common
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def benchmarks():
    """Return a loader of the scripts, and forget them afterwards."""
    before = set(sys.modules)
    load("common")
    yield load
    for name in {"common", "scaling", "full_cifar10", "finetune_vs_textbook", "time_to_accuracy"} - before:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def common(benchmarks):
    return sys.modules["common"]


@pytest.fixture
def images(tmp_path):
    """Return a folder of two classes of small noise: 8 and 4 training images, 4 and 4 test images."""
    random = np.random.default_rng(0)
    root = tmp_path / "images"
    for split, counts in (("train", (8, 4)), ("test", (4, 4))):
        for name, count in zip(("cat", "sea lion"), counts, strict=True):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(root / split / name / f"{index}.jpg")
    return root


def links(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))


# --- The subset


@pytest.mark.parametrize(
    ("available", "total", "expected"),
    [
        ({"a": 50, "b": 50}, 10, [5, 5]),
        ({"a": 75, "b": 25}, 8, [6, 2]),
        ({"a": 10, "b": 10, "c": 10}, 10, [4, 3, 3]),
        ({"a": 98, "b": 1, "c": 1}, 4, [2, 1, 1]),
        ({"a": 3, "b": 2}, 5, [3, 2]),
    ],
)
def test_shares_follow_the_classes(common, available, total, expected):
    assert list(common.shares(available, total).values()) == expected


@pytest.mark.parametrize("total", [1, 6])
def test_shares_that_cannot_be_are_one_sentence(common, total):
    with pytest.raises(common.BenchmarkError, match=f"^{total} images cannot be drawn from 5 images of 2 classes: give 2 to 5.$"):
        common.shares({"a": 3, "b": 2}, total)


def test_subset_is_stratified_links_to_the_images(common, images, tmp_path):
    subset = common.make_subset(images, tmp_path / "subset", 6, 4, seed=0)
    assert [len(list((subset.folder / place).iterdir())) for place in ("train/cat", "train/sea lion", "test/cat", "test/sea lion")] == [4, 2, 2, 2]
    for name in links(subset.folder):
        assert (subset.folder / name).is_symlink()
        assert (subset.folder / name).read_bytes() == (images / name).read_bytes()
    assert (subset.train, subset.test, subset.classes) == (6, 4, 2)


def test_subset_is_fixed_by_its_seed_and_grows_with_its_size(common, images, tmp_path):
    first, again, other, larger = (
        common.make_subset(images, tmp_path / name, train, 4, seed) for name, train, seed in (("a", 6, 0), ("b", 6, 0), ("c", 6, 1), ("d", 9, 0))
    )
    assert links(first.folder) == links(again.folder)
    assert first.fingerprint == again.fingerprint
    assert other.fingerprint != first.fingerprint
    assert set(links(first.folder)) < set(links(larger.folder))


def test_subset_of_a_folder_without_splits_is_refused(common, images, tmp_path):
    with pytest.raises(common.BenchmarkError, match="has no folder train/"):
        common.make_subset(images / "train", tmp_path / "subset", 2, 2, 0)


def test_subset_of_different_classes_is_refused(common, images, tmp_path):
    (images / "test" / "cat").rename(images / "test" / "dog")
    with pytest.raises(common.BenchmarkError, match="have different classes"):
        common.make_subset(images, tmp_path / "subset", 4, 4, 0)


# --- Arithmetic


def test_spread(common):
    assert str(common.spread([3.0, 1.0, 2.0])) == "2.0 (1.0 to 3.0)"
    assert str(common.spread([3.0])) == "3.0"


def test_accuracy_interval_is_that_of_wilson(common):
    assert common.accuracy_interval(0.9, 50) == wilson_interval(45, 50)


def test_difference_interval_is_that_of_newcombe(common):
    interval = common.difference_interval(0.8, 0.6, 100)
    first, second = wilson_interval(80, 100), wilson_interval(60, 100)
    assert interval.low == pytest.approx(0.2 - math.sqrt((0.8 - first.low) ** 2 + (second.high - 0.6) ** 2))
    assert interval.high == pytest.approx(0.2 + math.sqrt((first.high - 0.8) ** 2 + (0.6 - second.low) ** 2))
    assert 0 < interval.low < 0.2 < interval.high


def test_slopes_are_between_neighbours(common):
    assert common.slopes([1000, 2000, 4000], [10.0, 13.0, 23.0]) == pytest.approx([3.0, 5.0])


# --- Child processes


def test_child_is_measured(common):
    run = common.run_child([sys.executable, "-c", "import time; block = b'x' * 60_000_000; time.sleep(0.6); print('done')"])
    assert run.stdout == "done\n"
    assert 0.6 < run.seconds < 20
    if run.peak_bytes is not None:
        assert 60e6 < run.peak_bytes < 160e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_is_not_inherited_from_this_process(common):
    block = np.ones(40_000_000)  # 320 MB
    run = common.run_child([sys.executable, "-c", "import time; time.sleep(0.5)"])
    assert block.nbytes > 300e6
    assert run.peak_bytes is not None
    assert run.peak_bytes < 100e6


def test_child_that_fails_says_what_it_said(common):
    with pytest.raises(common.BenchmarkError, match=r"(?s)ended with exit code 3; it said:\nno such thing$"):
        common.run_child([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])


def test_command_that_does_not_exist(common):
    with pytest.raises(common.BenchmarkError, match="cannot be started"):
        common.run_child(["no-such-command-anywhere"])


# --- Verdicts and reports


@pytest.fixture
def report(common):
    def make(*met):
        claims = [common.Claim("claimed", "measured", value) for value in met]
        return common.Report("sample", "A sample", {"images": 3}, claims, [common.Table(("a", "b"), [("1", "x|y")])], ["a note"], {"seconds": 1.5})

    return make


@pytest.mark.parametrize(("met", "code"), [((True, True), 0), ((True, False), 1)])
def test_exit_code_is_the_verdict(common, report, tmp_path, met, code):
    assert common.finish(report(*met), tmp_path, ["--data", "/home/somebody/images"]) == code
    content = json.loads((tmp_path / "sample.json").read_text(encoding="utf-8"))
    assert [claim["met"] for claim in content["claims"]] == list(met)
    assert (content["settings"], content["measurements"]) == ({"images": 3}, {"seconds": 1.5})
    assert content["provenance"]["hardware"]["cores"] >= 1
    text = (tmp_path / "sample.md").read_text(encoding="utf-8")
    assert "| 1 | x\\|y |" in text
    assert ("NOT MET" in text) is not all(met)
    assert "somebody" not in text + json.dumps(content)


def test_arguments_after_the_dashes_are_passed_on(common):
    assert common.split_arguments(["--data", "x", "--", "--resize", "crop", "--"]) == (["--data", "x"], ["--resize", "crop", "--"])
    assert common.split_arguments(["--data", "x"]) == (["--data", "x"], [])


@pytest.mark.parametrize(
    ("argument", "expected"),
    [("/home/x/w.pt", ".../w.pt"), ("--weights=/home/x/w.pt", "--weights=.../w.pt"), ("a/b", "a/b"), ("--seed=1", "--seed=1")],
)
def test_absolute_paths_are_not_shown(common, argument, expected):
    assert common.shown(argument) == expected


@pytest.mark.parametrize(
    ("seconds", "peaks", "expected"),
    [
        ([10, 20, 42], [10**9, 2 * 10**9, 15 * 10**8], [True, True]),
        ([10, 20, 42], [10**9, 2 * 10**9 + 1, 10**9], [False, True]),
        ([10, 20, 47], [10**9, 10**9, 10**9], [True, False]),
        ([10, 9, 8], [None, None, None], [False, False]),
    ],
)
def test_scaling_verdicts(benchmarks, seconds, peaks, expected):
    assert [claim.met for claim in benchmarks("scaling").claims([1000, 2000, 4000], seconds, peaks)] == expected


@pytest.mark.parametrize(
    ("seconds", "accuracy", "expected"), [(2.0, 0.90, [True, True]), (2.1, 0.89, [False, True]), (1.0, 0.86, [True, False]), (1.0, 1.0, [True, True])]
)
def test_comparison_verdicts(benchmarks, common, seconds, accuracy, expected):
    module = benchmarks("finetune_vs_textbook")
    textbook = module.Side([common.Run(10.0, None, None, "")], [0.9])
    ours = module.Side([common.Run(seconds, None, None, "")], [accuracy])
    assert [claim.met for claim in module.claims(textbook, ours, 1000, 5.0)] == expected


def test_full_cifar10_verdicts(benchmarks):
    claims = benchmarks("full_cifar10").claims
    assert [claim.met for claim in claims(0.925, 10_000, 2700, 92.5, 45)] == [True, True]
    assert [claim.met for claim in claims(0.9249, 10_000, 2701, 92.5, 45)] == [False, False]


def test_time_to_accuracy_refuses_another_file(benchmarks, common, tmp_path):
    path = tmp_path / "other.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(common.BenchmarkError, match="is not a result of finetune_vs_textbook"):
        benchmarks("time_to_accuracy").read_textbook(path)


# --- The baseline


def test_textbook_script_runs(common, images):
    command = [
        sys.executable,
        str(BENCHMARKS / "textbook_script.py"),
        "--data",
        str(images),
        "--image-size",
        "32",
        "--epochs1",
        "1",
        "--epochs2",
        "1",
    ]
    began = time.perf_counter()
    run = common.run_child([*command, "--threads", "1"])
    result = json.loads(run.stdout.splitlines()[-1])
    assert set(result) == {"accuracy", "test_images", "seconds_stage1", "seconds_stage2", "seconds"}
    assert result["test_images"] == 8
    assert result["accuracy"] * 8 in range(9)
    assert 0 < result["seconds_stage1"] + result["seconds_stage2"] < result["seconds"] < run.seconds <= time.perf_counter() - began
