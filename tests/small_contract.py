"""The input of artifacts that are made up: images of 4 x 4 pixels, normalised in the graph."""

from __future__ import annotations

from toolkit.bundle.manifest import InputContract, Normalization

CONTRACT = InputContract(
    name="images",
    dtype="uint8",
    shape=("N", 4, 4, 3),
    normalization=Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    normalization_in_graph=True,
)
