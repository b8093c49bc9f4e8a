from __future__ import annotations

import pytest
from pydantic import ValidationError

from toolkit.bench.job import Job
from toolkit.bundle.manifest import InputContract


@pytest.fixture
def job(contract: InputContract) -> Job:
    return Job(
        factory="package.module:open",
        arguments={"device": "cpu", "threads": 1, "path": None},
        images="images.npy",
        targets="targets.npy",
        contract=contract,
        min_seconds=0.15,
    )


def test_the_worker_reads_what_was_sent_in_one_line(job: Job) -> None:
    line = job.model_dump_json()
    assert "\n" not in line
    assert Job.from_json(line) == job


def test_a_worker_of_another_version_refuses_what_it_does_not_know(job: Job) -> None:
    with pytest.raises(ValidationError, match="priority"):
        Job.model_validate({**job.model_dump(), "priority": 1})
