"""Two sides beside each other: two benchmark reports, runs or bundles, or both measured now in turns.

The statistics are those of ``toolkit.compare``; here the figures are gathered and judged.
"""

from toolkit.comparison.judge import Limits, compare_figures
from toolkit.comparison.sides import Figures, Side, one_measurement, side_of_bundle, side_of_report, side_of_run

__all__ = [
    "Figures",
    "Limits",
    "Side",
    "compare_figures",
    "one_measurement",
    "side_of_bundle",
    "side_of_report",
    "side_of_run",
]
