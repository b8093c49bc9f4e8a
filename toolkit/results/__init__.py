"""What a stage found out: frozen records with a JSON round trip and a published JSON Schema.

A record carries figures and verdicts, never behaviour. Units stand in the field names (``_seconds``, ``_bytes``) or in
the docstring.

One family of records a file; each is imported from here.
"""

from toolkit.results.bench import BatchTiming, BenchReport, BenchRow, Estimate, Latency
from toolkit.results.evaluation import ClassScore, Evaluation, Leak
from toolkit.results.parity import (
    ArtifactParity,
    Bisection,
    Check,
    ClassDifference,
    DivergedNode,
    Divergence,
    ErrorStatistics,
    Flip,
    GoldenLimits,
    OutputParity,
    PairedAccuracy,
    ParityReport,
    Rounding,
    Tolerance,
)
from toolkit.results.provenance import Hardware, Provenance
from toolkit.results.quantization import CalibrationMethod, GroupSensitivity, QuantizationCandidate, QuantizationSearch
from toolkit.results.record import Interval, Record

__all__ = [
    "ArtifactParity",
    "BatchTiming",
    "BenchReport",
    "BenchRow",
    "Bisection",
    "CalibrationMethod",
    "Check",
    "ClassDifference",
    "ClassScore",
    "DivergedNode",
    "Divergence",
    "ErrorStatistics",
    "Estimate",
    "Evaluation",
    "Flip",
    "GoldenLimits",
    "GroupSensitivity",
    "Hardware",
    "Interval",
    "Latency",
    "Leak",
    "OutputParity",
    "PairedAccuracy",
    "ParityReport",
    "Provenance",
    "QuantizationCandidate",
    "QuantizationSearch",
    "Record",
    "Rounding",
    "Tolerance",
]
