"""The configuration, as the protobuf reads it that tritonclient ships."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tests.bundles import BATCH, STREAMS
from toolkit.bundle import Bundle
from toolkit.deploy.triton import Wanted, described
from toolkit.deploy.triton_config import Deployed, config_text


def parsed(model: Deployed) -> Any:
    return text_format.Parse(config_text(model, "000.bin"), model_config_pb2.ModelConfig())


def tensor(described: Any) -> tuple[str, str, list[int]]:
    return described.name, model_config_pb2.DataType.Name(described.data_type), list(described.dims)


@pytest.fixture
def model(colour_bundle: Path) -> Deployed:
    return described(Bundle.open(colour_bundle), Wanted())


def test_onnx_keeps_its_names_and_leaves_the_batch_axis_to_the_server(model: Deployed) -> None:
    config = parsed(model)
    assert (config.name, config.backend, config.platform) == ("colours", "onnxruntime", "onnxruntime_onnx")
    assert [tensor(entry) for entry in config.input] == [("images", "TYPE_UINT8", [8, 8, 3])]
    assert [tensor(entry) for entry in config.output] == [
        ("logits", "TYPE_FP32", [3]),
        ("probabilities", "TYPE_FP32", [3]),
    ]
    assert {entry.label_filename for entry in config.output} == {"labels.txt"}


def test_the_default_setting_is_said_to_be_one(model: Deployed) -> None:
    config, text = parsed(model), config_text(model, "000.bin")
    assert "# Batches, instances and threads: a default: nothing was measured on cpu" in text
    assert config.max_batch_size == 8
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    (group,) = config.instance_group
    assert (group.count, group.kind) == (1, model_config_pb2.ModelInstanceGroup.KIND_CPU)
    assert dict(config.parameters) == {}


def test_the_measured_setting_is_the_servers(tuned_bundle: Path) -> None:
    config = parsed(described(Bundle.open(tuned_bundle), Wanted()))
    assert config.max_batch_size == BATCH
    assert config.dynamic_batching.max_queue_delay_microseconds == 100_000
    assert config.instance_group[0].count == STREAMS
    assert config.parameters["intra_op_thread_count"].string_value == "1"


def test_one_image_a_call_needs_no_batcher(tuned_bundle: Path) -> None:
    config = parsed(described(Bundle.open(tuned_bundle), Wanted(purpose="latency")))
    assert (config.max_batch_size, config.HasField("dynamic_batching")) == (1, False)
    assert [sample.batch_size for sample in config.model_warmup] == [1]


def test_torchscript_is_told_by_position(torchscript_bundle: Path) -> None:
    config = parsed(described(Bundle.open(torchscript_bundle), Wanted(artifact="torchscript")))
    assert (config.backend, config.platform) == ("pytorch", "pytorch_libtorch")
    assert [entry.name for entry in config.input] == ["INPUT__0"]
    assert [entry.name for entry in config.output] == ["OUTPUT__0", "OUTPUT__1"]
    assert list(config.model_warmup[0].inputs) == ["INPUT__0"]


def test_openvino_has_the_batch_as_an_axis(openvino_bundle: Path) -> None:
    model = described(Bundle.open(openvino_bundle), Wanted(artifact="openvino"))
    config = parsed(replace(model, setting=replace(model.setting, instances=3, threads=2)))
    assert (config.backend, config.platform, config.max_batch_size) == ("openvino", "", 0)
    assert not config.HasField("dynamic_batching")  # which the server takes with a batch size above 0 only
    assert [tensor(entry) for entry in config.input] == [("images", "TYPE_UINT8", [-1, 8, 8, 3])]
    assert [tensor(entry)[2] for entry in config.output] == [[-1, 3], [-1, 3]]
    assert [list(sample.inputs["images"].dims) for sample in config.model_warmup] == [[1, 8, 8, 3]]
    # All instances share one compiled model.
    assert config.parameters["INFERENCE_NUM_THREADS"].string_value == "6"
    assert config.parameters["NUM_STREAMS"].string_value == "3"


def test_warm_up_runs_one_image_and_a_full_batch(model: Deployed) -> None:
    samples = parsed(model).model_warmup
    assert [(sample.batch_size, sample.count) for sample in samples] == [(1, 3), (8, 1)]
    for sample in samples:
        value = sample.inputs["images"]
        assert list(value.dims) == [8, 8, 3]
        assert value.input_data_file == "000.bin"


@pytest.mark.parametrize(("device", "gpus"), [("cuda", []), ("cuda:1", [1])])
def test_on_a_gpu_float32_is_float32(model: Deployed, device: str, gpus: list[int]) -> None:
    config = parsed(replace(model, device=device, setting=replace(model.setting, threads=4)))
    (group,) = config.instance_group
    assert (group.kind, list(group.gpus)) == (model_config_pb2.ModelInstanceGroup.KIND_GPU, gpus)
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})
    assert "intra_op_thread_count" not in config.parameters


def test_a_tensor_input_is_float32_with_the_channels_first(
    colour_bundle: Path, tensor_input: Callable[[Path], Path]
) -> None:
    config = parsed(described(Bundle.open(tensor_input(colour_bundle)), Wanted()))
    assert [tensor(entry) for entry in config.input] == [("images", "TYPE_FP32", [3, 8, 8])]


def test_names_of_a_stranger_end_no_string(model: Deployed) -> None:
    strange = 'a"b\\c \u00e9'
    contract = model.manifest.input.model_copy(update={"name": strange})
    config = parsed(replace(model, manifest=model.manifest.model_copy(update={"input": contract, "name": "x } y"})))
    assert config.input[0].name == strange
    assert list(config.model_warmup[0].inputs) == [strange]
