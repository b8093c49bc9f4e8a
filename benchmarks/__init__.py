"""Comparisons of toolkit with other ways to do the same job.

Each module beside the folders is one command, run from the root of the repository: ``python -m benchmarks.scaling``.
``harness/`` holds what they share, ``faults/`` what is broken on purpose and who judges it.
"""
