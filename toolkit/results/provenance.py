"""Where a result comes from."""

from __future__ import annotations

from toolkit.results.record import Record


class Hardware(Record):
    """The machine that something ran on."""

    processor: str
    cores: int
    memory_bytes: int
    gpu: str | None
    operating_system: str


class Provenance(Record):
    """Where a result comes from: enough to make it again, or to see why it cannot be made again."""

    created: str
    """UTC time, ISO 8601."""
    toolkit: str
    python: str
    packages: dict[str, str]
    """Version of each package that matters, by distribution name."""
    hardware: Hardware
    commit: str | None
    """Commit of the working directory if it is a Git checkout, with ``-dirty`` if files differ from it."""
