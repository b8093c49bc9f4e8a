from __future__ import annotations

import logging

import pytest

from toolkit.formats.loggers import ROOT, silenced


@pytest.mark.parametrize("name", [ROOT, "some.package"])
def test_only_what_is_grave_is_heard_in_the_block(name: str, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger(name)
    with silenced(name, below=logging.ERROR):
        logger.warning("loud")
        logger.error("grave")
    logger.warning("afterwards")
    assert [record.message for record in caplog.records] == ["grave", "afterwards"]


@pytest.mark.parametrize("name", [ROOT, "some.package"])
def test_what_a_library_does_to_a_logger_is_undone_even_when_it_fails(name: str) -> None:
    logger = logging.getLogger(name)
    before = (logger.level, list(logger.filters), list(logger.handlers))

    def library() -> None:
        logger.setLevel(logging.DEBUG)
        logger.addFilter(lambda _: False)
        logger.handlers = [logging.NullHandler()]
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"), silenced(name, below=logging.CRITICAL):
        library()
    assert (logger.level, list(logger.filters), list(logger.handlers)) == before
