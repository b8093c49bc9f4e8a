"""The arithmetic of comparing and scoring outputs, on numpy arrays alone."""
