"""Proving that exported artifacts compute what they should.

``verify.run`` compares a run's bundle with PyTorch; ``verify.bundle`` and ``verify.against`` judge bundles alone, and
import no torch. All three say only where expectations come from: ``verify.judge`` is the one way through.
"""
