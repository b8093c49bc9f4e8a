from __future__ import annotations

import threading

from toolkit.serving.interface import Answered
from toolkit.serving.refusals import ModelFailed, Overloaded
from toolkit.serving.statistics import Statistics

NOTHING = {"count": 0, "ns": 0}


def test_a_version_that_did_nothing_has_zeros() -> None:
    assert Statistics().of("cats", "1") == {
        "name": "cats",
        "version": "1",
        "last_inference": 0,
        "inference_count": 0,
        "execution_count": 0,
        "inference_stats": dict.fromkeys(
            (
                "success",
                "fail",
                "queue",
                "compute_input",
                "compute_infer",
                "compute_output",
                "cache_hit",
                "cache_miss",
            ),
            NOTHING,
        ),
        "batch_stats": [],
    }


def test_requests_phases_and_batches_are_counted() -> None:
    statistics = Statistics(clock=lambda: 1_700_000_000.5)
    statistics.request(Answered("cats", "2", "http", 3, None, 0.25))
    statistics.request(Answered("cats", "2", "grpc", 1, None, 0.5))
    statistics.request(Answered("cats", "2", "http", 1, ModelFailed("broken"), 0.125))
    statistics.phases("cats", "2", {"queue": 0.1, "decode": 0.2, "compute": 0.3})
    statistics.phases("cats", "2", {"compute": 0.4})
    for images, seconds in ((3, 0.01), (1, 0.002), (3, 0.03)):
        statistics.batch("cats", "2", images, seconds)
    found = statistics.of("cats", "2")
    assert found["last_inference"] == 1_700_000_000_500
    assert (found["inference_count"], found["execution_count"]) == (7, 3)
    assert found["inference_stats"] == {
        "success": {"count": 2, "ns": 750_000_000},
        "fail": {"count": 1, "ns": 125_000_000},
        "queue": {"count": 1, "ns": 100_000_000},
        "compute_input": {"count": 1, "ns": 200_000_000},
        "compute_infer": {"count": 2, "ns": 700_000_000},
        "compute_output": NOTHING,
        "cache_hit": NOTHING,
        "cache_miss": NOTHING,
    }
    assert found["batch_stats"] == [
        {
            "batch_size": 1,
            "compute_input": NOTHING,
            "compute_infer": {"count": 1, "ns": 2_000_000},
            "compute_output": NOTHING,
        },
        {
            "batch_size": 3,
            "compute_input": NOTHING,
            "compute_infer": {"count": 2, "ns": 40_000_000},
            "compute_output": NOTHING,
        },
    ]
    assert statistics.of("cats", "1")["inference_count"] == 0


def test_what_no_version_answered_belongs_to_none() -> None:
    statistics = Statistics()
    for name in ("cats", "no such model"):
        statistics.request(Answered(name, "", "http", 1, Overloaded("full"), 0.1))
    assert statistics.of("cats", "")["inference_stats"]["fail"] == NOTHING
    assert statistics._versions == {}  # a stranger's names take no memory


def test_threads_lose_nothing() -> None:
    statistics = Statistics()

    def tell() -> None:
        for _ in range(2000):
            statistics.batch("cats", "1", 2, 1e-9)

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statistics.of("cats", "1")["inference_count"] == 16_000
    assert statistics.of("cats", "1")["batch_stats"][0]["compute_infer"] == {"count": 8000, "ns": 8000}
