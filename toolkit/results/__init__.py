"""What a stage found out: frozen records with a JSON round trip and a published JSON Schema.

A record carries figures and verdicts, never behaviour. Units stand in the field names (``_seconds``, ``_bytes``) or in
the docstring.

One family of records a file; each is imported from here.
"""

from toolkit.results.bench import (
    REFERENCE_ROW,
    BatchTiming,
    BenchReport,
    BenchRow,
    EndToEnd,
    Estimate,
    Latency,
    Load,
    MachineState,
    Peak,
    Phase,
    SettingTiming,
    Tuned,
)
from toolkit.results.comparison import (
    AccuracyComparison,
    ComparedRow,
    ComparedSide,
    Comparison,
    Gate,
    ParityState,
    SpeedComparison,
    Verdict,
)
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
from toolkit.results.review import CalibrationBin, ConfusedPair, LabelIssues, Review, ReviewedImage

__all__ = [
    "REFERENCE_ROW",
    "AccuracyComparison",
    "ArtifactParity",
    "BatchTiming",
    "BenchReport",
    "BenchRow",
    "Bisection",
    "CalibrationBin",
    "CalibrationMethod",
    "Check",
    "ClassDifference",
    "ClassScore",
    "ComparedRow",
    "ComparedSide",
    "Comparison",
    "ConfusedPair",
    "DivergedNode",
    "Divergence",
    "EndToEnd",
    "ErrorStatistics",
    "Estimate",
    "Evaluation",
    "Flip",
    "Gate",
    "GoldenLimits",
    "GroupSensitivity",
    "Hardware",
    "Interval",
    "LabelIssues",
    "Latency",
    "Leak",
    "Load",
    "MachineState",
    "OutputParity",
    "PairedAccuracy",
    "ParityReport",
    "ParityState",
    "Peak",
    "Phase",
    "Provenance",
    "QuantizationCandidate",
    "QuantizationSearch",
    "Record",
    "Review",
    "ReviewedImage",
    "Rounding",
    "SettingTiming",
    "SpeedComparison",
    "Tolerance",
    "Tuned",
    "Verdict",
]
