"""What the benchmarks share: measured child processes, images, figures, reports and command lines."""
