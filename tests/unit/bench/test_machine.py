"""How busy the machine is, from files that are written here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from toolkit.bench import machine
from toolkit.bench.machine import Moment, Watch, frequency_mhz, load_between, machine_state, moment, warning
from toolkit.cgroups import Throttling
from toolkit.results import Load

pytestmark = pytest.mark.skipif(not hasattr(os, "sysconf"), reason="Linux tells this in files; this is no POSIX system")
QUIET = Load(load_average=0.1, busy_share=0.02, steal_share=0.0, frequency_mhz=3000.0)


def write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="ascii")


def test_a_moment_counts_everything_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_CLK_TCK": 100}[name])
    # user nice system idle iowait irq softirq steal guest guest_nice: guests are in user time already
    write(tmp_path, "proc/stat", "cpu  100 200 300 400 50 6 7 80 90 10\ncpu0 1 1 1 1\n")
    found = moment(tmp_path)
    assert found is not None
    assert (found.total, found.busy, found.steal) == pytest.approx((11.43, 6.13, 0.8))
    assert found.own == pytest.approx(sum(os.times()[:4]), abs=1.0)


CORES = "cpu  30 0 0 50 0 0 0 0\ncpu0 30 0 0 10 0 0 0 0\ncpu1 0 0 0 40 0 0 0 0\nintr 1 2\n"


@pytest.mark.parametrize(
    ("own", "busy", "total"), [({0}, 0.3, 0.4), ({1}, 0.0, 0.4), ({0, 1}, 0.3, 0.8), ({0, 7}, 0.3, 0.8)]
)
def test_what_counts_are_the_cores_that_this_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: set[int], busy: float, total: float
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: own, raising=False)
    write(tmp_path, "proc/stat", CORES)
    found = moment(tmp_path)
    assert found is not None
    assert (found.busy, found.total) == pytest.approx((busy, total))


@pytest.mark.parametrize("text", ["", "cpu  1 2 3\n", "cpu  a b c d e f g h\n"])
def test_a_system_that_does_not_tell(tmp_path: Path, text: str) -> None:
    assert moment(tmp_path) is None
    write(tmp_path, "proc/stat", text)
    assert moment(tmp_path) is None
    load = Watch(tmp_path).load()
    assert (load.busy_share, load.steal_share, load.frequency_mhz) == (None, None, None)


def test_shares_are_those_of_others() -> None:
    start = Moment(total=100.0, busy=50.0, steal=1.0, own=10.0)
    end = Moment(total=110.0, busy=58.0, steal=1.5, own=15.0)
    load = load_between(start, end, [1000.0, 3000.0])
    # 8 of 10 seconds were busy, 5 of them with this process and its children.
    assert (load.busy_share, load.steal_share, load.frequency_mhz) == pytest.approx((0.3, 0.05, 2000.0))


def test_a_share_is_never_negative_and_needs_a_quarter_of_a_second() -> None:
    start = Moment(total=100.0, busy=50.0, steal=1.0, own=10.0)
    rounded = Moment(total=110.0, busy=54.9, steal=1.0, own=15.0)  # both clocks tick in hundredths
    assert load_between(start, rounded, []).busy_share == 0.0
    soon = Moment(total=100.2, busy=50.1, steal=1.0, own=10.0)
    assert load_between(start, soon, []).busy_share is None


def test_frequencies_are_a_mean_over_the_cores(tmp_path: Path) -> None:
    assert frequency_mhz(tmp_path) is None
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 2000.5\n\nprocessor\t: 1\ncpu MHz\t\t: 3000.5\n")
    assert frequency_mhz(tmp_path) == 2500.5
    for core, khz in enumerate((1_000_000, 1_500_000)):
        write(tmp_path, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", f"{khz}\n")
    assert frequency_mhz(tmp_path) == 1250.0


def test_each_load_is_that_since_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    monkeypatch.setattr(machine, "_load_average", lambda: 1.5)
    write(tmp_path, "proc/stat", "cpu 0 0 0 0 0 0 0 0\n")
    watch = Watch(tmp_path)
    write(tmp_path, "proc/stat", "cpu 90000 0 0 10000 0 0 0 0\n")
    before = watch.load()
    assert before.busy_share == pytest.approx(0.9, abs=0.01)
    assert before.load_average == 1.5
    write(tmp_path, "proc/cpuinfo", "cpu MHz : 2000\n")
    watch.sample()
    write(tmp_path, "proc/cpuinfo", "cpu MHz : 4000\n")
    watch.sample()
    write(tmp_path, "proc/stat", "cpu 100000 0 0 100000 0 0 0 0\n")
    during = watch.load()
    assert during.busy_share == pytest.approx(0.1, abs=0.01)
    assert during.frequency_mhz == 3000.0


def test_a_quiet_machine_needs_no_remark() -> None:
    assert warning(QUIET) is None
    assert machine_state(QUIET, QUIET).remarks == ()
    unknown = Load(load_average=None, busy_share=None, steal_share=None, frequency_mhz=None)
    assert machine_state(unknown, unknown).remarks == ()


def test_a_busy_machine_is_said_in_a_sentence() -> None:
    busy = QUIET.model_copy(update={"busy_share": 0.1})
    assert warning(busy) == (
        "The machine was busy: other processes took 10% of the processor time just before measuring. End them and "
        "measure again for figures that hold."
    )
    assert machine_state(busy, QUIET).remarks == ()  # what counts is what was there while it measured
    assert len(machine_state(QUIET, busy).remarks) == 1
    assert "gave 2% of its processor time to other machines" in str(
        warning(QUIET.model_copy(update={"steal_share": 0.02}))
    )


def test_a_machine_that_was_busy_only_after_the_model_alone_was_measured_is_said_too() -> None:
    busy = QUIET.model_copy(update={"busy_share": 0.5})
    (remark,) = machine_state(QUIET, QUIET, busy).remarks
    assert remark.startswith(
        "The machine was busy: other processes took 50% of the processor time after the model alone was measured"
    )
    assert machine_state(QUIET, busy, busy).remarks == machine_state(QUIET, busy).remarks  # one sentence is enough


def test_a_container_whose_limit_ran_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Throttling(periods=100, throttled=10), Throttling(periods=300, throttled=60), None]
    monkeypatch.setattr(machine, "throttling", lambda root: found.pop(0))
    watch = Watch(tmp_path)
    load = watch.load()
    assert load.throttled_share == 0.25
    assert machine_state(QUIET, load).remarks == (
        "The CPU limit of this container ran out in 25% of its periods while it was measured: everything stands still "
        "then until the next one. Give the container whole cores, or measure with fewer --threads.",
    )
    assert watch.load().throttled_share is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_this_machine_tells() -> None:
    found = moment()
    assert found is not None
    assert found.total > found.busy > 0
