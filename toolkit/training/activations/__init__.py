"""The frozen part of a network, and the activations that are kept of it."""
