"""What became of one model."""

from __future__ import annotations

from dataclasses import dataclass, field

UNCUT = "not cut:"
"""How ``Finding.cut`` starts where it says why there is no frozen frontier."""


@dataclass
class Finding:
    """What became of one model; what a step could not do stands as its sentence."""

    family: str
    model: str
    parameters: int = 0
    side: int = 0
    head: str = ""
    """The layers that were replaced, and how the network pools before them."""
    blocks: int = 0
    step: str = ""
    """What moved in a step that should not, or did not that should."""
    border: str = ""
    """How much of the border has no effect."""
    cut: str = ""
    """The tensors at the frozen frontier, or why there is none."""
    formats: dict[str, str] = field(default_factory=dict)
    """By format, what is wrong with the artifact, or why there is none."""
    said: str = ""
    """What other libraries wrote to the terminal."""
    seconds: float = 0.0
    refused: str = ""
    """Why toolkit does not take it."""
    failed: str = ""
    """What went wrong though nothing should have."""
