"""A bundle as an ``InferenceService`` of KServe, served by its Triton runtime: ``toolkit deploy kserve``.

The fields are those of ``serving.kserve.io/v1beta1``:
https://github.com/kserve/kserve/blob/master/pkg/apis/serving/v1beta1/predictor_model.go and predictor.go beside it.
The runtime is KServe's own:
https://github.com/kserve/kserve/blob/master/config/runtimes/kserve-tritonserver.yaml. It serves ``/mnt/models``, where
KServe puts what lies under the storage URI, as a model repository, speaks v2 on 8080 and gRPC on 9000, and takes the
format ``triton`` in version 2.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from toolkit.bundle import Bundle
from toolkit.deploy.triton import Wanted, described, require_target, write_model
from toolkit.deploy.triton_config import Deployed
from toolkit.devices import kind_of
from toolkit.distribution import DISTRIBUTION
from toolkit.errors import ToolkitError
from toolkit.files import new_folder, sync_files
from toolkit.printable import printable, public_url

SERVICE_NAME = "inferenceservice.yaml"
REPOSITORY_NAME = "models"
"""The folder whose content belongs under the storage URI."""
LONGEST_DERIVED = 40
"""Characters of a service's name that is made from the model's: KServe appends a role and the namespace to it, and a
part of a host name has 63."""
LONGEST_NAME = 63
DEFAULT_CPUS = "1"
LEAST_MEMORY = 2 * 2**30
"""Bytes, as KServe's runtime for Triton has it."""
SERVER_MEMORY = 2**30
"""Bytes of the server itself, with room."""
MEMORY_MULTIPLE = 3
"""What an engine needs of a file's size for each instance: the file, its weights laid out anew, and activations."""
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
"""What YAML 1.1 reads as a truth value, or as nothing."""
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUANTITY = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_URI = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Service:
    """What is asked of the service beside the model."""

    storage_uri: str
    """Where the content of ``models`` will lie."""
    name: str | None = None
    """Of the service; made from the model's by default."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Further labels of the service."""
    cpu: str | None = None
    """A Kubernetes quantity; what the instances need by default."""
    memory: str | None = None
    runtime_version: str | None = None
    """The tag of Triton's image; the runtime's own by default."""
    service_account: str | None = None
    """Whose secrets open the storage."""


def deploy_kserve(bundle: Bundle, out: Path, wanted: Wanted, service: Service) -> tuple[Path, Deployed]:
    """Write an ``InferenceService``, and beside it the model repository that belongs under its storage URI.

    Args:
        bundle: an opened bundle.
        out: the folder to make.
        wanted: of the model.
        service: of the service.

    Returns:
        The folder, and how the server will know the model.

    Raises:
        ToolkitError: a name, label, quantity or URI is none; and see ``triton.deploy_triton``.
    """
    _require_valid(service)
    model = described(bundle, wanted)
    cpus = service.cpu or _cpus(model)
    if not model.setting.measured and kind_of(model.device) == "cpu":
        # The engine would start as many threads as the node has cores, and be throttled.
        threads = max(1, int(_cores(cpus) / model.setting.instances))
        model = replace(model, setting=replace(model.setting, threads=threads))
    content = _yaml(_resource(bundle, model, service, cpus))
    require_target(out, SERVICE_NAME, bundle, wanted.overwrite)
    with new_folder(out, "the service") as folder:
        (folder / REPOSITORY_NAME / model.name).mkdir(parents=True)
        write_model(folder / REPOSITORY_NAME / model.name, bundle, model)
        (folder / SERVICE_NAME).write_text(_about(model, service) + content, encoding="utf-8", newline="\n")
        sync_files(folder)
    return out, model


def _require_valid(service: Service) -> None:
    problem = next(_problems(service), None)
    if problem is not None:
        raise ToolkitError(problem)


def _problems(service: Service) -> Iterator[str]:
    uri = service.storage_uri
    if _URI.fullmatch(uri) is None or not uri.isprintable():
        yield f"the storage URI {printable(uri)!r} is none: give one like s3://bucket/models."
    elif public_url(uri) != uri:
        yield (
            f"the storage URI {public_url(uri)} holds credentials or a query, which would stand in the service for all "
            "to read: leave them out, and name a --service-account whose secret opens the storage."
        )
    for what, name in (("service", service.name), ("service account", service.service_account)):
        if name is not None and (_SERVICE.fullmatch(name) is None or len(name) > LONGEST_NAME):
            yield (
                f"a {what} cannot be called {printable(name)!r}: give a name of small letters, digits and '-' that "
                f"starts with a letter, {LONGEST_NAME} characters at most."
            )
    for what, quantity in (("cpu", service.cpu), ("memory", service.memory)):
        if quantity is not None and _QUANTITY.fullmatch(quantity) is None:
            yield f"--{what} {printable(quantity)!r} is no quantity of Kubernetes: give one like 2, 500m or 4Gi."
    for key, value in service.labels.items():
        if _LABEL_KEY.fullmatch(key) is None or _LABEL_VALUE.fullmatch(value) is None:
            yield (
                f"--label {printable(f'{key}={value}')!r} is no label of Kubernetes: key and value hold letters, "
                "digits, '-', '_' and '.', 63 characters at most."
            )
    if service.runtime_version is not None and re.fullmatch(r"[\w][\w.-]{0,127}", service.runtime_version) is None:
        yield (
            f"--runtime-version {printable(service.runtime_version)!r} is no tag of an image: give one like 25.09-py3."
        )


def _service_name(model: Deployed, service: Service) -> str:
    if service.name is not None:
        return service.name
    name = re.sub("[^a-z0-9]+", "-", model.name.lower())[:LONGEST_DERIVED].strip("-")
    if _SERVICE.fullmatch(name) is None:
        raise ToolkitError(
            f"no service can be called after the model {printable(model.name)!r}: give it a --service-name of small "
            "letters, digits and '-' that starts with a letter."
        )
    return name


def _cpus(model: Deployed) -> str:
    """Return how many cores the instances keep busy where that was measured."""
    setting = model.setting
    if kind_of(model.device) == "cuda" or setting.threads is None:
        return DEFAULT_CPUS
    return str(setting.instances * setting.threads)


def _cores(quantity: str) -> float:
    number = float(re.sub("[A-Za-z]", "", quantity))
    return number / 1000 if quantity.endswith("m") else number


def _memory(model: Deployed) -> str:
    needed = SERVER_MEMORY + MEMORY_MULTIPLE * model.artifact.total_bytes * model.setting.instances
    return f"{-(-max(needed, LEAST_MEMORY) // 2**30)}Gi"


def _resource(bundle: Bundle, model: Deployed, service: Service, cpus: str) -> dict[str, object]:
    name = _service_name(model, service)
    resources = {"cpu": cpus, "memory": service.memory or _memory(model)}
    limits = resources | ({"nvidia.com/gpu": "1"} if kind_of(model.device) == "cuda" else {})
    served: dict[str, object] = {
        "modelFormat": {"name": "triton", "version": "2"},
        "runtime": "kserve-tritonserver",
        "protocolVersion": "v2",
        "storageUri": service.storage_uri,
    }
    if service.runtime_version is not None:
        served["runtimeVersion"] = service.runtime_version
    served["resources"] = {"requests": resources, "limits": limits}
    account = {} if service.service_account is None else {"serviceAccountName": service.service_account}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/name": name,
                "app.kubernetes.io/version": str(model.version),
                "app.kubernetes.io/managed-by": DISTRIBUTION,
                **service.labels,
            },
            "annotations": {f"{DISTRIBUTION}/manifest-sha256": hashlib.sha256(bundle.manifest_bytes).hexdigest()},
        },
        "spec": {"predictor": {**account, "model": served}},
    }


def _about(model: Deployed, service: Service) -> str:
    return (
        f"# {printable(model.manifest.name)}: {printable(model.artifact.file)}, served as {model.name}.\n"
        f"# Before 'kubectl apply', copy what is in {REPOSITORY_NAME}/ to {service.storage_uri}\n"
        f"# Batches, instances and threads: {model.setting.source}.\n"
    )


def _yaml(value: Mapping[str, object], indent: str = "") -> str:
    """Return a mapping of mappings and texts as YAML; a text is quoted as in JSON, so that none means anything else."""
    lines = ""
    for key, item in value.items():
        if isinstance(item, Mapping):
            lines += f"{indent}{_key(key)}:\n{_yaml(item, indent + '  ')}"
        else:
            lines += f"{indent}{_key(key)}: {json.dumps(item, ensure_ascii=False)}\n"
    return lines


def _key(key: str) -> str:
    return key if key.isalpha() and key.lower() not in _WORDS else json.dumps(key)
