"""The servers that ``benchmarks.serve`` compares, how each is asked, and what asks it."""
