"""Finding the fastest 8-bit form of an ONNX graph that keeps its accuracy."""
