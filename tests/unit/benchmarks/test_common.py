"""The arithmetic, the subsets and the verdicts of the benchmarks, and one small run of the baseline."""

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import resnet18

from toolkit.compare.metrics import wilson_interval
from toolkit.recipe import load_recipe

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def images(tmp_path):
    """Return a folder of two classes of small noise: 8 and 4 training images, 4 and 4 test images."""
    random = np.random.default_rng(0)
    root = tmp_path / "images"
    for split, counts in (("train", (8, 4)), ("test", (4, 4))):
        for name, count in zip(("cat", "sea lion"), counts, strict=True):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(
                    root / split / name / f"{index}.jpg"
                )
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
def test_shares_that_cannot_be_are_one_sentence(common, child, total):
    with pytest.raises(
        child.BenchmarkError, match=f"^{total} images cannot be drawn from 5 images of 2 classes: give 2 to 5.$"
    ):
        common.shares({"a": 3, "b": 2}, total)


def test_subset_is_stratified_links_to_the_images(common, images, tmp_path):
    subset = common.make_subset(images, tmp_path / "subset", 6, 4, seed=0)
    assert [
        len(list((subset.folder / place).iterdir()))
        for place in ("train/cat", "train/sea lion", "test/cat", "test/sea lion")
    ] == [4, 2, 2, 2]
    for name in links(subset.folder):
        assert (subset.folder / name).is_symlink()
        assert (subset.folder / name).read_bytes() == (images / name).read_bytes()
    assert (subset.train, subset.test, subset.classes) == (6, 4, 2)


def test_subset_is_fixed_by_its_seed_and_grows_with_its_size(common, images, tmp_path):
    first, again, other, larger = (
        common.make_subset(images, tmp_path / name, train, 4, seed)
        for name, train, seed in (("a", 6, 0), ("b", 6, 0), ("c", 6, 1), ("d", 9, 0))
    )
    assert links(first.folder) == links(again.folder)
    assert first.fingerprint == again.fingerprint
    assert other.fingerprint != first.fingerprint
    assert set(links(first.folder)) < set(links(larger.folder))


def test_subset_of_a_folder_without_splits_is_refused(common, child, images, tmp_path):
    with pytest.raises(child.BenchmarkError, match="has no folder train/"):
        common.make_subset(images / "train", tmp_path / "subset", 2, 2, 0)


def test_subset_of_different_classes_is_refused(common, child, images, tmp_path):
    (images / "test" / "cat").rename(images / "test" / "dog")
    with pytest.raises(child.BenchmarkError, match="have different classes"):
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


def test_line_goes_through_points_on_a_line(common):
    line = common.fit_line([1000, 5000, 20_000], [12.0, 20.0, 50.0])
    assert (line.fixed, line.per_1000, line.deviation) == pytest.approx((10.0, 2.0, 0.0))
    assert str(line) == "10.0 s + 2.00 s per 1,000 images"


def test_line_tells_how_far_the_farthest_point_is(common):
    line = common.fit_line([1000, 2000, 3000], [1.0, 4.0, 1.0])
    assert (line.fixed, line.per_1000, line.deviation) == pytest.approx((2.0, 0.0, 1.0))


def test_megabytes(common):
    assert common.megabytes(2_000_000_000) == "2,000"
    assert common.megabytes(1_000_000, None, 3_000_000) == "2 (1 to 3)"
    assert common.megabytes(None) == common.megabytes() == "not measured"


# --- Verdicts and reports


def test_module_stands_in_for_a_missing_command(common, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert common.toolkit_command() == [str(tmp_path / "python"), "-m", "toolkit.cli.main"]
    script = tmp_path / ("toolkit.exe" if sys.platform == "win32" else "toolkit")
    script.touch()
    assert common.toolkit_command() == [str(script)]


@pytest.fixture
def report(common):
    def make(*met):
        claims = [common.Claim("claimed", "measured", value) for value in met]
        return common.Report(
            "sample",
            "A sample",
            {"images": 3},
            claims,
            [common.Table(("a", "b"), [("1", "x|y")])],
            ["a note"],
            {"seconds": 1.5},
        )

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
    assert common.split_arguments(["--data", "x", "--", "--resize", "crop", "--"]) == (
        ["--data", "x"],
        ["--resize", "crop", "--"],
    )
    assert common.split_arguments(["--data", "x"]) == (["--data", "x"], [])


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("/home/x/w.pt", ".../w.pt"),
        ("--weights=/home/x/w.pt", "--weights=.../w.pt"),
        ("a/b", "a/b"),
        ("--seed=1", "--seed=1"),
    ],
)
def test_absolute_paths_are_not_shown(child, argument, expected):
    assert child.shown(argument) == expected


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
    ("seconds", "accuracy", "expected"),
    [(2.0, 0.90, [True, True]), (2.1, 0.89, [False, True]), (1.0, 0.86, [True, False]), (1.0, 1.0, [True, True])],
)
def test_comparison_verdicts(benchmarks, child, seconds, accuracy, expected):
    module = benchmarks("finetune_vs_textbook")  # the baseline took 10 s at 90%
    textbook = module.Side([child.Run(10.0, None, None, "")], [0.9])
    ours = module.Side([child.Run(seconds, None, None, "")], [accuracy])
    assert [claim.met for claim in module.claims(textbook, ours, 1000, 5.0)] == expected


def test_speed_is_the_median_over_pairs(benchmarks, common, child):
    module = benchmarks("finetune_vs_textbook")
    runs = [[child.Run(seconds, None, None, "") for seconds in side] for side in ((10.0, 12.0, 20.0), (2.0, 2.0, 2.0))]
    baseline, ours = (module.Side(side, [0.9] * 3) for side in runs)
    assert module.ratios(baseline, ours) == [5.0, 6.0, 10.0]
    assert module.claims(baseline, ours, 1000, 6.0)[0] == common.Claim(
        "at least 6x less wall time", "6.00x (pairs: 5.00x to 10.00x)", True
    )


def test_both_sides_get_the_same_images_and_weights(benchmarks, common, child, images, tmp_path, monkeypatch):
    module = benchmarks("finetune_vs_textbook")
    seen = []

    def run_in_turns(commands, _turns):
        for command in commands:
            words = list(command.words)
            seen.append(
                (
                    words[words.index("--data") + 1],
                    words[words.index("--weights") + 1],
                    words[words.index("--seed") + 1],
                )
            )
        return [child.Run(10.0, 2 * 10**9, None, json.dumps({"accuracy": 0.5})), child.Run(1.0, 10**9, None, "")]

    def read(_prepared, run):
        return common.Finetuned(run, 0.5, 4, "resnet18", "file", "textbook", 2)

    monkeypatch.setattr(module, "run_in_turns", run_in_turns)
    monkeypatch.setattr(common.Finetuning, "read", read)
    weights = tmp_path / "resnet18.pth"
    weights.write_bytes(b"weights")
    options = ["--train", "6", "--test", "4", "--repeat", "2", "--weights", str(weights)]
    code = module.benchmark(["--data", str(images), *options, "--output", str(tmp_path / "out")])
    assert code == 0
    assert len({(data, file) for data, file, _ in seen}) == 1
    assert [seed for *_, seed in seen] == ["0", "0", "1", "1"]
    text = (tmp_path / "out" / "finetune_vs_textbook.md").read_text(encoding="utf-8")
    assert "10.00x" in text
    assert "validation" in text
    assert str(tmp_path) not in text
    result = tmp_path / "out" / "finetune_vs_textbook.json"
    target = benchmarks("time_to_accuracy").read_textbook(result)
    assert (target.accuracy, target.seconds, target.train, target.test) == (0.5, 10.0, 6, 4)


@pytest.mark.parametrize(
    ("accuracies", "seconds", "expected"),
    [
        ([0.8, 0.9], [2.0, 2.0], [True, True]),
        ([0.79, 0.9], [2.0, 2.0], [False, True]),
        ([0.8, 0.8], [2.0, 2.1], [True, False]),
    ],
)
def test_time_to_accuracy_verdicts(benchmarks, common, child, accuracies, seconds, expected):
    module = benchmarks("time_to_accuracy")
    target = module.Textbook(0.8, 30.0, 100, 100, 0, "", "", 224, "")
    results = [
        common.Finetuned(child.Run(time, None, None, ""), accuracy, 100, "", "", "", 2)
        for accuracy, time in zip(accuracies, seconds, strict=True)
    ]
    assert [claim.met for claim in module.claims(target, results, 15.0)] == expected


def test_time_to_accuracy_warns_of_an_unequal_start(benchmarks):
    unequal_start = benchmarks("time_to_accuracy").unequal_start
    assert "Unequal start" in unequal_start("random (torchvision's initialisation)", "ImageNet-1k (pip package)")[0]
    assert unequal_start("random (...)", "random") == unequal_start("resnet18.pth, SHA-256 0", "ImageNet-1k") == []


def test_time_to_accuracy_passes_on_what_it_is_given(benchmarks):
    module = benchmarks("time_to_accuracy")
    options = module.parse(["--data", "x", "--backbone", "timm:b", "--weights", "w.pth"])
    assert module.toolkit_arguments(Path("s"), options, ["--image-size", "64"]) == (
        ["--recipe", "cifar10", "--data", "s", "--backbone", "timm:b", "--weights", "w.pth", "--image-size", "64"]
    )
    assert (options.train, options.test, options.epochs) == (2000, 1000, 10)


def test_time_to_accuracy_refuses_options_beside_a_result(benchmarks, child):
    with pytest.raises(child.BenchmarkError, match=r"^--epochs, --image-size cannot be given with --textbook-result"):
        benchmarks("time_to_accuracy").parse(
            ["--data", "x", "--textbook-result", "r.json", "--epochs", "10", "--image-size", "64"]
        )


def test_time_to_accuracy_refuses_a_result_from_another_machine(benchmarks, child, tmp_path):
    settings = {
        "train images": 6,
        "test images": 4,
        "seed": 0,
        "subset": "0",
        "initial ResNet-18 of both sides": "random",
        "image size": 32,
    }
    origin = {"created": "2026-01-01", "hardware": {"processor": "Abacus", "cores": 3}}
    path = tmp_path / "finetune_vs_textbook.json"
    path.write_text(
        json.dumps(
            {
                "measurements": {"textbook": {"accuracy": 0.5, "seconds": 9.0}},
                "settings": settings,
                "provenance": origin,
            }
        ),
        encoding="utf-8",
    )
    with pytest.raises(child.BenchmarkError, match="was measured on 3 cores of Abacus, this machine has"):
        benchmarks("time_to_accuracy").read_textbook(path)


def test_full_cifar10_verdicts(benchmarks):
    claims = benchmarks("full_cifar10").claims
    assert [claim.met for claim in claims(0.925, 10_000, 2700, 92.5, 45)] == [True, True]
    assert [claim.met for claim in claims(0.9249, 10_000, 2701, 92.5, 45)] == [False, False]


def test_time_to_accuracy_refuses_another_file(benchmarks, child, tmp_path):
    path = tmp_path / "other.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(child.BenchmarkError, match="is not a result of finetune_vs_textbook"):
        benchmarks("time_to_accuracy").read_textbook(path)


# --- The baseline


def run_script(child, images, *arguments):
    command = [
        sys.executable,
        str(BENCHMARKS / "textbook_script.py"),
        "--data",
        str(images),
        "--image-size",
        "32",
        "--threads",
        "1",
    ]
    run = child.run_child([*command, "--epochs1", "1", "--epochs2", "1", *arguments])
    return run, json.loads(run.stdout.splitlines()[-1])


def test_textbook_script_runs(child, images):
    began = time.perf_counter()
    run, result = run_script(child, images)
    assert set(result) == {
        "accuracy",
        "train_images",
        "test_images",
        "seconds_stage1",
        "seconds_stage2",
        "seconds_testing",
        "seconds",
    }
    assert (result["train_images"], result["test_images"]) == (12, 8)
    assert result["accuracy"] * 8 in range(9)
    assert (
        0
        < result["seconds_stage1"] + result["seconds_stage2"]
        < result["seconds"]
        < run.seconds
        <= time.perf_counter() - began
    )


def test_textbook_script_reads_weights_and_logs_times(child, images, tmp_path):
    weights = tmp_path / "resnet18.pth"
    model = resnet18(weights=None)
    torch.save(model.state_dict(), weights)
    log = tmp_path / "log.jsonl"
    _, result = run_script(child, images, "--weights", str(weights), "--evaluate", "each", "--time-log", str(log))
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [(1, 1), (2, 1)]
    assert 0 < lines[0]["seconds"] < lines[1]["seconds"] <= result["seconds"] - result["seconds_testing"]
    assert lines[1]["test_accuracy"] == result["accuracy"]


def test_random_weights_have_the_statistics_of_images_and_say_so(benchmarks, child, images, tmp_path):
    textbook = benchmarks("harness.textbook")
    path = tmp_path / "resnet18.safetensors"
    options = ["--data", str(images), "--output", str(path), "--image-size", "32", "--images", "4"]
    child.run_child([sys.executable, str(BENCHMARKS / "random_weights.py"), *options])
    weights = load_file(path)
    assert weights["bn1.running_mean"].abs().max() > 0
    assert textbook.weights_description(path).startswith("random (")
    assert "statistics of 4 training images at 32 px (resnet18.safetensors, SHA-256 " in textbook.weights_description(
        path
    )


def test_textbook_script_and_recipe_train_alike(benchmarks):
    script = benchmarks("textbook_script")
    recipe = load_recipe("textbook")
    assert recipe.train.batch_size == script.BATCH_SIZE
    assert (recipe.stage1.head_lr, recipe.stage1.momentum, recipe.stage1.optimizer) == (
        script.HEAD_RATE,
        script.MOMENTUM,
        "sgd",
    )
    assert (recipe.stage2.head_lr, recipe.stage2.backbone_lr, recipe.stage2.momentum) == (
        script.HEAD_RATE,
        script.BACKBONE_RATE,
        script.MOMENTUM,
    )
    assert recipe.stage2.unfreeze == ("layer4",)
    assert {recipe.stage1.schedule, recipe.stage2.schedule} == {"constant"}
