"""Faults of what is made of the logits."""

from __future__ import annotations

import torch

from benchmarks.faults.around import Outputs, output_fault


@output_fault
def softmax_over_the_batch(logits: torch.Tensor, probabilities: torch.Tensor) -> Outputs:
    """Softmax over the wrong axis."""
    del probabilities
    return logits, logits.softmax(dim=0)


@output_fault
def softmax_twice(logits: torch.Tensor, probabilities: torch.Tensor) -> Outputs:
    """Softmax of the probabilities."""
    return logits, probabilities.softmax(dim=1)


@output_fault
def no_softmax(logits: torch.Tensor, probabilities: torch.Tensor) -> Outputs:
    """Logits are returned as probabilities."""
    del probabilities
    return logits, logits + 0.0


@output_fault
def log_softmax(logits: torch.Tensor, probabilities: torch.Tensor) -> Outputs:
    """Logits are log-probabilities: the same classes, the same probabilities."""
    return logits.log_softmax(dim=1), probabilities


@output_fault
def temperature(logits: torch.Tensor, probabilities: torch.Tensor) -> Outputs:
    """Probabilities are calibrated with a temperature of 1.1 that nobody asked for."""
    del probabilities
    return logits, (logits / 1.1).softmax(dim=1)


@output_fault
def outputs_exchanged(logits: torch.Tensor, probabilities: torch.Tensor) -> Outputs:
    """Probabilities are returned as logits and the other way round."""
    return probabilities + 0.0, logits + 0.0
