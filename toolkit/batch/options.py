"""How a job is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from toolkit.errors import ToolkitError, require_count, require_flag

Engine = Literal["here", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
PART_ROWS = 5000
"""Inputs of a part where nobody says: what a kill can lose."""
TOP = 5
"""Classes in a row where nobody says."""


@dataclass(frozen=True)
class Options:
    """How a job is done.

    Raises:
        ToolkitError: a number is no whole number of at least 1, or ``logits`` neither True nor False.
    """

    top: int = TOP
    """Most probable classes in a row; of fewer classes all."""
    logits: bool = False
    """Whether rows have the logits of all classes."""
    part_rows: int = PART_ROWS
    """Inputs a part."""
    batch_size: int | None = None
    """Images per call of the engine; None for that of the tuned setting, or 32."""
    column: str | None = None
    """Of a Parquet input: the column of paths or image files; None for the only one."""
    key: str | None = None
    """Of a Parquet input of image files: the column that says which is which; None for the only one."""
    engine: Engine = "here"
    """In this process, or with Ray Data: see ``toolkit.batch.on_ray``."""

    def __post_init__(self) -> None:
        for name in ("top", "part_rows"):
            require_count(name, getattr(self, name))
        require_flag("logits", self.logits)
        if self.engine not in ENGINES:
            raise ToolkitError(f"engine is {self.engine!r}: give {' or '.join(ENGINES)}.")
        if self.batch_size is not None:
            require_count("batch_size", self.batch_size)
