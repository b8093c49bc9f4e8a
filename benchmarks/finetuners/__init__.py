"""The sides of ``benchmarks.peers``, each a program of its own in the Python that has what it needs."""
