"""Proving that exported artifacts compute what PyTorch computes."""

from toolkit.verify.stage import verify_run

__all__ = ["verify_run"]
