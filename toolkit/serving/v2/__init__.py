"""The Open Inference Protocol, version 2: the same answers over HTTP (``http``) and gRPC (``grpc_server``).

https://github.com/kserve/open-inference-protocol, with these of Triton's extensions: binary tensor data,
classification, model configuration, model repository (its index), and statistics.
"""
