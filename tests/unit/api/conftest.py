"""Made-up reports, as the tests of the reports have them."""

from tests.unit.report.conftest import bench, parity

__all__ = ["bench", "parity"]
