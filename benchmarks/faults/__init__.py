"""Good artifacts broken on purpose: the faults, what plants them, and the tools that judge the result."""
