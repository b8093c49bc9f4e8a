from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from batch_record import RECORD

import toolkit
from toolkit.batch import on_ray
from toolkit.batch.inputs import Source
from toolkit.batch.job import Job
from toolkit.batch.on_ray import PartMaker
from toolkit.batch.out_folder import OutFolder
from toolkit.errors import DataError, MissingDependencyError, ToolkitError
from toolkit.runtime import Predictor


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.chdir(tmp_path)
    out = OutFolder(Path("out"))
    return Job(out, RECORD, Source(out.listing, "path", None, None), None, None)


def test_a_job_is_reached_from_every_folder(job: Job, tmp_path: Path) -> None:
    anywhere = on_ray._from_anywhere(job)
    assert anywhere.out.path == tmp_path / "out"
    assert anywhere.source.file == tmp_path / "out" / "_batch" / "inputs.parquet"
    assert anywhere.source.base == tmp_path


def test_a_part_that_is_there_is_counted_and_another_made(
    job: Job, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def make(_: Job, __: Predictor, parts: list[int], ___: object) -> int:
        made.extend(parts)
        return 2

    monkeypatch.setattr(OutFolder, "errors_in", lambda _, number, __: 3 if number == 1 else None)
    monkeypatch.setattr(Job, "make", make)
    assert PartMaker(job, pickle.dumps(predictor))({"part": [0, 1]})["errors"] == [2, 3]
    assert made == [0]


def test_what_a_part_meets_is_a_sentence_and_the_others_are_made(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(_: Job, __: Predictor, parts: list[int], ___: object) -> int:
        if parts == [1]:
            raise DataError("it is damaged.")
        return 0

    monkeypatch.setattr(Job, "make", make)
    made = PartMaker(job, pickle.dumps(None))({"part": [0, 1, 2]})
    assert made["part"] == [0, 1, 2]
    assert list(zip(made["kind"], made["said"], strict=True)) == [("", ""), ("DataError", "it is damaged."), ("", "")]


def test_a_bundle_that_an_actor_cannot_open_is_a_sentence(job: Job, colour_bundle: Path) -> None:
    pickled = pickle.dumps(toolkit.load(colour_bundle, threads=1))
    shutil.rmtree(colour_bundle)
    made = PartMaker(job, pickled)({"part": [0]})
    assert made["kind"] == ["BundleError"]
    assert str(colour_bundle) in made["said"][0]


def test_a_cluster_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        @staticmethod
        def is_initialized() -> bool:
            return False

        @staticmethod
        def init(**given: Any) -> None:
            assert given["address"] == "10.0.0.1:6379"
            raise ConnectionError("nobody answers")

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with (
        pytest.raises(
            ToolkitError, match=r"no Ray cluster can be reached at 10\.0\.0\.1:6379 \(ConnectionError: nobody"
        ),
        on_ray._cluster(Ray),
    ):
        pass


def test_without_ray_a_sentence_says_what_to_install(
    job: Job, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str, said: str) -> Any:
        raise MissingDependencyError(f"{said}.")

    monkeypatch.setattr(on_ray, "import_optional", missing)
    with pytest.raises(MissingDependencyError, match=r"pip install 'vision-deploy-toolkit\[ray\]'"):
        on_ray.make_on_ray(job, predictor, [0], lambda _: None)
