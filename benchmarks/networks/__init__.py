"""The networks that ``benchmarks.families`` goes through, what is looked at in each, and what that says."""
