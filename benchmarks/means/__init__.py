"""The means of training that ``benchmarks.single_gains`` measures, and what that says of each."""
