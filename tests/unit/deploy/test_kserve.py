"""The InferenceService, read back as YAML and held against what the custom resource may have."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from triton_model import TritonModel

from tests.bundles import STREAMS
from toolkit.bundle import Bundle
from toolkit.deploy.kserve import Service, deploy_kserve
from toolkit.deploy.triton import Wanted
from toolkit.errors import FileWriteError, ToolkitError

URI = "s3://bucket/models"
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
QUANTITIES = {
    "type": "object",
    "propertyNames": {"enum": ["cpu", "memory", "nvidia.com/gpu"]},
    "additionalProperties": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"},
}


def fields(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


# Written after the types of KServe: ModelSpec, ModelFormat and PredictorExtensionSpec, which holds the fields of a
# container, in pkg/apis/serving/v1beta1 of https://github.com/kserve/kserve. Of their fields those that are written.
SCHEMA = fields(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "serving.kserve.io/v1beta1"},
    kind={"const": "InferenceService"},
    metadata=fields(("name",), name=NAME, labels=TEXTS, annotations=TEXTS),
    spec=fields(
        ("predictor",),
        predictor=fields(
            ("model",),
            serviceAccountName=NAME,
            model=fields(
                ("modelFormat", "storageUri"),
                modelFormat=fields(("name",), name={"type": "string"}, version={"type": "string"}),
                runtime={"type": "string"},
                runtimeVersion={"type": "string"},
                protocolVersion={"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]},
                storageUri={"type": "string"},
                resources=fields(("requests", "limits"), requests=QUANTITIES, limits=QUANTITIES),
            ),
        ),
    ),
)


def deployed(bundle: Path, out: Path, wanted: Wanted | None = None, **service: Any) -> dict[str, Any]:
    """Write a service and return what its YAML says."""
    deploy_kserve(Bundle.open(bundle), out, wanted or Wanted(), Service(**{"storage_uri": URI, **service}))
    resource = yaml.safe_load((out / "inferenceservice.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(resource, SCHEMA)
    return resource


def model_of(resource: dict[str, Any]) -> dict[str, Any]:
    return resource["spec"]["predictor"]["model"]


def test_it_is_an_inference_service_of_the_triton_runtime(colour_bundle: Path, tmp_path: Path) -> None:
    resource = deployed(colour_bundle, tmp_path / "out")
    digest = hashlib.sha256((colour_bundle / "manifest.json").read_bytes()).hexdigest()
    assert resource["metadata"] == {
        "name": "colours",
        "labels": {
            "app.kubernetes.io/name": "colours",
            "app.kubernetes.io/version": "1",
            "app.kubernetes.io/managed-by": "vision-deploy-toolkit",
        },
        "annotations": {"vision-deploy-toolkit/manifest-sha256": digest},
    }
    assert model_of(resource) == {
        "modelFormat": {"name": "triton", "version": "2"},
        "runtime": "kserve-tritonserver",
        "protocolVersion": "v2",
        "storageUri": URI,
        "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
    }


def test_the_schema_refuses_what_the_resource_does_not_have(colour_bundle: Path, tmp_path: Path) -> None:
    resource = deployed(colour_bundle, tmp_path / "out")
    model_of(resource)["storageURI"] = model_of(resource).pop("storageUri")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(resource, SCHEMA)


def test_beside_it_lies_the_repository_that_triton_serves(colour_bundle: Path, tmp_path: Path) -> None:
    deployed(colour_bundle, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["inferenceservice.yaml", "models"]
    model = TritonModel(tmp_path / "out" / "models" / "colours")
    model.warm_up()
    # The engine would start a thread for each core of the node, whatever the limit of the container.
    assert model.config.parameters["intra_op_thread_count"].string_value == "1"


def test_measured_instances_get_the_cores_that_they_keep_busy(tuned_bundle: Path, tmp_path: Path) -> None:
    resource = deployed(tuned_bundle, tmp_path / "out")
    assert model_of(resource)["resources"]["limits"]["cpu"] == str(STREAMS)
    config = TritonModel(tmp_path / "out" / "models" / "colours").config
    assert (config.instance_group[0].count, config.parameters["intra_op_thread_count"].string_value) == (STREAMS, "1")


@pytest.mark.parametrize(("cpu", "threads"), [("4", "4"), ("2500m", "2"), ("500m", "1"), ("1.5", "1")])
def test_an_unmeasured_model_gets_as_many_threads_as_cores(
    colour_bundle: Path, tmp_path: Path, cpu: str, threads: str
) -> None:
    resource = deployed(colour_bundle, tmp_path / "out", cpu=cpu, memory="8Gi")
    assert model_of(resource)["resources"]["requests"] == {"cpu": cpu, "memory": "8Gi"}
    config = TritonModel(tmp_path / "out" / "models" / "colours").config
    assert config.parameters["intra_op_thread_count"].string_value == threads


def test_a_gpu_is_asked_for(colour_bundle: Path, tmp_path: Path) -> None:
    resource = deployed(colour_bundle, tmp_path / "out", Wanted(device="cuda"))
    resources = model_of(resource)["resources"]
    assert resources["limits"] == {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"}
    assert resources["requests"] == {"cpu": "1", "memory": "2Gi"}


def test_what_is_asked_for_stands_there(colour_bundle: Path, tmp_path: Path) -> None:
    resource = deployed(
        colour_bundle,
        tmp_path / "out",
        Wanted(name="m.odel", version=7),
        name="cats",
        labels={"team": "vision", "on": "yes", "example.com/tier": "1e3"},
        runtime_version="25.09-py3",
        service_account="reader",
    )
    metadata, predictor = resource["metadata"], resource["spec"]["predictor"]
    assert metadata["name"] == "cats"
    assert metadata["labels"]["app.kubernetes.io/version"] == "7"
    assert {key: metadata["labels"][key] for key in ("team", "on", "example.com/tier")} == {
        "team": "vision",
        "on": "yes",
        "example.com/tier": "1e3",
    }
    assert predictor["serviceAccountName"] == "reader"
    assert predictor["model"]["runtimeVersion"] == "25.09-py3"
    assert (tmp_path / "out" / "models" / "m.odel" / "7" / "model.onnx").exists()


@pytest.mark.parametrize(
    ("model", "service"),
    [("Flowers_2024.b", "flowers-2024-b"), ("a" * 60, "a" * 40), ("x--" * 20, "x" + "-x" * 19)],
)
def test_the_service_is_called_after_the_model(colour_bundle: Path, tmp_path: Path, model: str, service: str) -> None:
    assert deployed(colour_bundle, tmp_path / "out", Wanted(name=model))["metadata"]["name"] == service


def test_the_memory_grows_with_the_file(colour_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.deploy.kserve.MEMORY_MULTIPLE", 2**40)
    memory = model_of(deployed(colour_bundle, tmp_path / "out"))["resources"]["limits"]["memory"]
    size = (colour_bundle / "model.onnx").stat().st_size
    assert memory == f"{1 + size * 2**10}Gi"


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ({"storage_uri": "bucket/models"}, "the storage URI 'bucket/models' is none"),
        ({"storage_uri": "s3://a b"}, "is none"),
        ({"storage_uri": "s3://key:secret@bucket/models"}, "s3://bucket/models holds credentials or a query"),
        ({"storage_uri": "https://host/m.tar?sig=abc"}, "holds credentials or a query"),
        ({"name": "Cats"}, "a service cannot be called 'Cats'"),
        ({"name": "a" * 64}, "a service cannot be called"),
        ({"service_account": "a b"}, "a service account cannot be called 'a b'"),
        ({"cpu": "two"}, "--cpu 'two' is no quantity"),
        ({"memory": "4 GB"}, "--memory '4 GB' is no quantity"),
        ({"labels": {"a b": "c"}}, "--label 'a b=c' is no label"),
        ({"labels": {"a": "c\n"}}, "is no label"),
        ({"runtime_version": "a:b"}, "--runtime-version 'a:b' is no tag"),
    ],
)
def test_what_kubernetes_would_refuse_is_a_sentence(
    colour_bundle: Path, tmp_path: Path, service: dict[str, Any], said: str
) -> None:
    with pytest.raises(ToolkitError, match=said) as error:
        deployed(colour_bundle, tmp_path / "out", **service)
    assert "secret@" not in str(error.value)
    assert "sig=" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_model_whose_name_makes_no_service_name_needs_one(colour_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="no service can be called after the model '2024': give it a --service-name"):
        deployed(colour_bundle, tmp_path / "out", Wanted(name="2024"))
    assert deployed(colour_bundle, tmp_path / "out", Wanted(name="2024"), name="y2024")["metadata"]["name"] == "y2024"


def test_only_a_service_is_replaced_and_only_if_asked(colour_bundle: Path, tmp_path: Path) -> None:
    deployed(colour_bundle, tmp_path / "out")
    with pytest.raises(FileWriteError, match="out exists already"):
        deployed(colour_bundle, tmp_path / "out")
    deployed(colour_bundle, tmp_path / "out", Wanted(name="b", overwrite=True))
    assert [path.name for path in (tmp_path / "out" / "models").iterdir()] == ["b"]
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileWriteError, match=r"is not replaced: it has no inferenceservice.yaml"):
        deployed(colour_bundle, tmp_path / "photos", Wanted(overwrite=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["colours", "out", "photos"]
