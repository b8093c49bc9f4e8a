"""A bundle behind the Open Inference Protocol: ``toolkit serve``.

Three parts that know each other by ``toolkit.serving.interface`` only: the models (opening, self-test, batching,
versions), the protocols that are spoken with them (HTTP and gRPC), and the server around both (limits, draining, keys,
metrics, logs). Tensors stay buffers from socket to engine. Never imports torch.
"""
