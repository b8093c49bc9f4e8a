"""Which settings are tried, which go, and which is the best."""

from __future__ import annotations

import pytest

from toolkit.bench import settings_sweep as module
from toolkit.bench.job import Job
from toolkit.bench.options import BenchOptions
from toolkit.bench.settings_sweep import (
    Limits,
    Setting,
    SettingsSweep,
    Tried,
    best,
    by_latency,
    by_throughput,
    contenders,
    doublings,
    grid,
    said,
    sweep_settings,
    tuned,
)

ONE = Setting(1, 1, 1)


def tried(setting: Setting, *images_per_second: float) -> Tried:
    """A setting whose rounds had these rates; each of its streams called once."""
    one = Tried(setting)
    for rate in images_per_second:
        one.add([[setting.batch_size * setting.streams / rate]] * setting.streams)
    return one


@pytest.mark.parametrize(("last", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_doublings_end_at_the_last(last, expected):
    assert doublings(last) == expected


def test_streams_share_the_cores_and_only_several_threads_can_spin():
    assert grid("cpu", 1, 4, spins=True) == [
        Setting(1, 1, 1, False),
        Setting(1, 2, 1, False),
        Setting(1, 4, 1, False),
        Setting(1, 2, 1, True),
        Setting(1, 4, 1, True),
        Setting(1, 1, 2, False),
        Setting(1, 2, 2, False),
        Setting(1, 2, 2, True),
        Setting(1, 1, 4, False),
    ]


def test_an_engine_that_cannot_be_told_is_not_told():
    assert {setting.spinning for setting in grid("cpu", 32, 2, spins=False)} == {None}
    assert sorted({setting.batch_size for setting in grid("cpu", 24, 2, spins=False)}) == [1, 2, 4, 8, 16, 24]


def test_on_cuda_streams_are_tried_and_threads_are_not():
    assert {(one.threads, one.streams, one.spinning) for one in grid("cuda", 2, 8, spins=True)} == {
        (8, 1, False),
        (8, 2, False),
        (8, 4, False),
    }


def test_there_are_no_more_streams_than_memory_is_meant_for():
    assert max(one.streams for one in grid("cpu", 1, 64, spins=False)) == module.MOST_STREAMS


def test_the_rates_of_all_streams_add_up_and_their_calls_are_pooled():
    one = Tried(Setting(10, 1, 2))
    one.add([[1.0, 1.0], [0.5, 0.5, 0.5]])
    assert one.images_per_second == [10 + 20]
    assert one.p50_seconds == [0.5]
    timing = one.timing()
    assert (timing.throughput.median, timing.latency.p50_seconds, timing.latency.calls) == (30.0, 0.5, 5)


def test_after_one_round_only_what_is_clearly_worse_for_both_purposes_goes():
    slow_but_quick = tried(ONE, 10)
    fast = tried(Setting(32, 1, 1), 100)
    near = tried(Setting(16, 1, 1), 85)
    far = tried(Setting(8, 1, 1), 70)
    late = tried(Setting(1, 2, 1), 7)
    assert contenders([slow_but_quick, fast, near, far, late]) == [slow_but_quick, fast, near]


def test_after_some_rounds_intervals_decide():
    one = tried(ONE, *[50] * 4)
    sure, worse, unsure = (
        tried(Setting(32, 1, 1), 100, 101, 99, 100),
        tried(Setting(16, 1, 1), 95, 96, 94, 95),
        tried(Setting(8, 1, 1), 80, 120, 70, 110),
    )
    assert contenders([one, sure, worse, unsure]) == [one, sure, unsure]


def test_the_fastest_is_the_best_where_it_is_clear():
    slow, fast = tried(ONE, 90, 91, 89, 90), tried(Setting(32, 1, 2), 100, 101, 99, 100)
    assert best([slow, fast], by_throughput) is fast


def test_within_noise_the_simpler_setting_is_taken():
    simple = tried(ONE, 99, 100, 98, 101)
    complicated = tried(Setting(32, 1, 2), 100, 99, 101, 100)
    assert best([complicated, simple], by_throughput) is simple


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_where_time_was_over_after_a_few_rounds_a_few_per_cent_are_noise(rounds):
    simple, complicated = tried(ONE, *[97] * rounds), tried(Setting(32, 1, 2), *[100] * rounds)
    assert best([complicated, simple], by_throughput) is simple
    much_slower = tried(ONE, *[90] * rounds)
    assert best([complicated, much_slower], by_throughput) is complicated


def test_wide_intervals_do_not_excuse_a_setting_that_is_much_slower():
    noisy = tried(ONE, 50, 120, 60, 80)
    fast = tried(Setting(32, 1, 2), 100, 100, 100, 100)
    assert best([noisy, fast], by_throughput) is fast


def test_settings_are_compared_round_by_round():
    """The machine was slow in some rounds for both, and one is always 3% slower."""
    weather = (100, 60, 110, 80)
    fast, slower = tried(Setting(32, 1, 2), *weather), tried(ONE, *(0.97 * rate for rate in weather))
    assert best([fast, slower], by_throughput) is fast


@pytest.mark.parametrize(
    ("simpler", "other"),
    [
        (Setting(32, 4, 1), Setting(1, 1, 2)),
        (Setting(1, 4, 1), Setting(2, 1, 1)),
        (Setting(1, 2, 1, False), Setting(1, 2, 1, True)),
        (Setting(1, 1, 1), Setting(1, 2, 1)),
    ],
)
def test_simple_is_fewer_streams_then_a_smaller_batch_then_sleeping_then_fewer_threads(simpler, other):
    assert simpler.simplicity < other.simplicity


def test_latency_is_that_of_one_image_and_throughput_that_of_all():
    latency, throughput = tuned(
        [tried(ONE, 50, 51), tried(Setting(1, 2, 1, True), 70, 71), tried(Setting(8, 1, 2), 90, 91)], 2
    )
    assert (latency.purpose, latency.batch_size, latency.threads, latency.spinning) == ("latency", 1, 2, True)
    assert latency.latency_p50_seconds == pytest.approx((1 / 70 + 1 / 71) / 2)
    assert (throughput.purpose, throughput.batch_size, throughput.streams, throughput.cores) == ("throughput", 8, 2, 2)
    assert throughput.images_per_second == 90.5


def test_what_was_given_up_after_a_round_is_not_chosen():
    early, late = tried(ONE, 1000), tried(Setting(1, 2, 1), 50, 50)
    assert {chosen.threads for chosen in tuned([early, late], 2)} == {2}
    assert tuned([], 2) == ()


@pytest.fixture
def sweep(inputs, contract, plan, lines, tmp_path):
    def make(settings, rounds=3, seconds=60.0, **arguments):
        made = plan(**arguments)
        job = Job(
            factory=made.factory,
            arguments=made.arguments,
            images=str(inputs.images),
            targets=str(inputs.targets),
            contract=contract,
            min_seconds=0.0,
        )
        return SettingsSweep(made, job, settings, Limits(rounds, 0.0, seconds), tmp_path / "sweep.log", lines)

    return make


@pytest.fixture
def scripted(monkeypatch):
    """Rates by setting in place of a worker; None is a failure."""

    def script(sweep, rates):
        asked = []

        def measure(setting):
            asked.append(setting)
            if rates[setting] is None:
                raise module.WorkerFailedError("no memory")
            return [[setting.batch_size * setting.streams / rates[setting]] * 3] * setting.streams

        monkeypatch.setattr(sweep, "_measure", measure)
        return asked

    return script


def test_a_sweep_of_a_real_worker(sweep, lines):
    settings = [Setting(1, 1, 1), Setting(1, 1, 2), Setting(2, 1, 2)]
    found = sweep(settings, rounds=2).run()
    assert [(one.batch_size, one.threads, one.streams) for one in found.sweep] == [(1, 1, 1), (1, 1, 2), (2, 1, 2)]
    assert {chosen.purpose for chosen in found.tuned} == {"latency", "throughput"}
    assert lines.lines == []
    assert lines.bars == {"sweep of fake (cpu)": [6, 6]}


def test_all_are_tried_and_only_contenders_again(sweep, scripted, lines):
    slow, fast, middle = Setting(1, 1, 1), Setting(8, 1, 1), Setting(4, 1, 1)
    this = sweep([slow, middle, fast])
    asked = scripted(this, {slow: 10, middle: 50, fast: 100})
    found = this.run()
    assert {setting: asked.count(setting) for setting in (slow, middle, fast)} == {slow: 3, middle: 1, fast: 3}
    assert [one.throughput.rounds for one in found.sweep] == [3, 1, 3]
    assert [(chosen.purpose, chosen.batch_size) for chosen in found.tuned] == [("latency", 1), ("throughput", 8)]
    assert lines.bars["sweep of fake (cpu)"] == [9, 9]


def test_a_failure_takes_along_what_needs_more_and_nothing_else(sweep, scripted, lines):
    small, wide, large, both = Setting(1, 1, 1), Setting(1, 1, 2), Setting(8, 1, 1), Setting(8, 1, 2)
    this = sweep([small, large, wide, both])
    asked = scripted(this, {small: 10, large: None, wide: 20, both: None})
    found = this.run()
    assert both not in asked
    assert [(one.batch_size, one.streams) for one in found.sweep] == [(1, 1), (1, 2)]
    assert lines.lines == [
        "fake (cpu) cannot be called with batch 8, 1 thread: no memory",
        "sweep of fake (cpu): 2 of 4 settings were measured; the others failed, or would need more memory than one "
        "that did",
    ]


def test_an_artifact_that_fails_always_is_given_up(sweep, scripted):
    settings = [Setting(8, 1, 1), Setting(4, 1, 1), Setting(2, 1, 1), Setting(1, 1, 1)]
    this = sweep(settings)
    asked = scripted(this, dict.fromkeys(settings))
    assert this.run() == module.Found()
    assert len(asked) == module.MOST_FAILURES


def test_when_the_time_is_up_a_round_that_is_not_whole_does_not_count(sweep, scripted, clock, monkeypatch, lines):
    settings = [Setting(1, 1, 1), Setting(2, 1, 1)]
    this = sweep(settings, seconds=2.5)
    this._clock = clock
    scripted(this, {settings[0]: 100, settings[1]: 100})
    measure = this._measure
    monkeypatch.setattr(this, "_measure", lambda setting: (setattr(clock, "time", clock.time + 1), measure(setting))[1])
    assert [one.throughput.rounds for one in this.run().sweep] == [1, 1]


def test_settings_that_had_no_time_at_all_are_said(sweep, scripted, clock, monkeypatch, lines):
    settings = [Setting(1, 1, 1), Setting(2, 1, 1)]
    this = sweep(settings, seconds=0.5)
    this._clock = clock
    scripted(this, {settings[0]: 100, settings[1]: 100})
    measure = this._measure
    monkeypatch.setattr(this, "_measure", lambda setting: (setattr(clock, "time", clock.time + 1), measure(setting))[1])
    found = this.run()
    assert [one.batch_size for one in found.sweep] == [1]
    assert {chosen.batch_size for chosen in found.tuned} == {1}
    assert lines.lines == ["sweep of fake (cpu): 1 of 2 settings were measured; the others had no time left"]


def test_another_device_than_the_one_asked_for_is_a_failure(sweep, lines):
    assert sweep([ONE], device="cuda", claims="cpu").run() == module.Found()
    assert lines.lines[0] == "fake (cuda) cannot be called with batch 1, 1 thread: it ran on cpu"


def test_the_options_say_how_far_it_goes(inputs, contract, plan, lines, monkeypatch):
    seen = []
    monkeypatch.setattr(SettingsSweep, "run", lambda self: seen.append((self._tried, self._limits)) or module.Found())
    options = BenchOptions(threads=2, batch_sizes=(1, 4), rounds=5, min_seconds=0.25)
    found = dict(sweep_settings([plan("onnx"), plan("torchscript")], inputs, contract, options, lines))
    assert found == {("onnx", "cpu"): module.Found(), ("torchscript", "cpu"): module.Found()}
    (onnx, limits), (torchscript, _) = seen
    assert [one.setting for one in onnx] == grid("cpu", 4, 2, spins=True)
    assert [one.setting for one in torchscript] == grid("cpu", 4, 2, spins=False)
    assert (limits.rounds, limits.min_seconds) == (5, 0.25)


def test_a_setting_in_words():
    assert said(Setting(8, 2, 4, True)) == "batch 8, 2 threads, 4 streams, spinning"
    assert said(Setting(1, 1, 1, False)) == "batch 1, 1 thread"


def test_the_latency_of_a_call_that_takes_no_time_is_the_best_of_all():
    assert by_latency(Tried(ONE, [[0.0]], [1.0])) == [float("inf")]
