"""Proving that exported artifacts compute what they should.

``verify.run`` compares a run's bundle with PyTorch; ``verify.bundle`` and ``verify.against`` judge bundles alone, and
import no torch.
"""
