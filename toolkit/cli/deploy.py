"""``toolkit deploy``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.next_steps import closing_line
from toolkit.cli.options import (
    AllowCodeOption,
    ArtifactOption,
    ArtifactsOption,
    DeviceOption,
    PlaceArgument,
    PurposeOption,
    RunOption,
    VerifyKeyOption,
)
from toolkit.cli.place import find_place
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from toolkit.deploy.triton_config import Deployed

NameOption = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="What the server calls the model (default: as the bundle)."),
]
VersionOption = Annotated[int, typer.Option("--version", metavar="N", min=1, help="Version of the model.")]
BatchOption = Annotated[
    int | None,
    typer.Option(
        "--max-batch-size", metavar="N", min=1, help="Images in one request at most (default: as measured, or 8)."
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what 'toolkit deploy' wrote there before.")]


def command(context: typer.Context) -> None:
    """Write a bundle in the form that somebody else's server takes.

    'toolkit deploy triton' writes a model repository for NVIDIA Triton, 'toolkit deploy kserve' that and an
    InferenceService for KServe, 'toolkit deploy docker' what 'docker build' needs for an image of 'toolkit serve'. None
    of these is needed to write it.
    """
    if context.invoked_subcommand is None:
        *others, last = (f"toolkit deploy {name}" for name in SUBCOMMANDS)
        raise ToolkitError(f"say for which server: {', '.join(others)} or {last}.")


def triton(
    place: PlaceArgument = None,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The model repository; other models in it stay.")
    ],
    name: NameOption = None,
    version: VersionOption = 1,
    artifact: ArtifactOption = None,
    device: DeviceOption = "cpu",
    tuned: PurposeOption = "throughput",
    max_batch_size: BatchOption = None,
    overwrite: OverwriteOption = False,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    verify_key: VerifyKeyOption = None,
    allow_code: AllowCodeOption = False,
) -> None:
    """Write a model repository for NVIDIA Triton.

    DIR/NAME gets config.pbtxt, the labels, the model under the name that its backend looks for, the golden samples as
    warm-up, and check.py, which asks a running server for them and compares. Batches, instances and threads are what
    'toolkit bench' measured, where it has.
    """
    folder = find_place(place, run, artifacts).bundle
    from toolkit.bundle import Bundle
    from toolkit.deploy.triton import CHECK_NAME, Wanted, deploy_triton

    bundle = Bundle.open(folder, verify_key, allow_code)
    wanted = Wanted(name, artifact, device, version, tuned, max_batch_size, overwrite)
    target, model = deploy_triton(bundle, out, wanted)
    _say(model)
    closing_line(target, then=f"tritonserver --model-repository={shlex.quote(str(out.absolute()))}, and when it runs:")
    typer.echo(f"python {shlex.quote(str(target / CHECK_NAME))} localhost:8001")


def kserve(
    place: PlaceArgument = None,
    *,
    storage_uri: Annotated[
        str,
        typer.Option("--storage-uri", metavar="URI", help="Where DIR/models will lie, e.g. s3://bucket/models."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to make.")],
    service_name: Annotated[
        str | None,
        typer.Option("--service-name", metavar="NAME", help="Name of the service (default: from the model's)."),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label of the service; may be repeated.")
    ] = None,
    cpu: Annotated[
        str | None, typer.Option("--cpu", metavar="N", help="Cores (default: what the instances keep busy, or 1).")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option("--memory", metavar="SIZE", help="Memory, e.g. 4Gi (default: 2Gi, more where needed)."),
    ] = None,
    runtime_version: Annotated[
        str | None,
        typer.Option("--runtime-version", metavar="TAG", help="Tag of Triton's image, e.g. 25.09-py3."),
    ] = None,
    service_account: Annotated[
        str | None,
        typer.Option("--service-account", metavar="NAME", help="Service account whose secret opens the storage."),
    ] = None,
    name: NameOption = None,
    version: VersionOption = 1,
    artifact: ArtifactOption = None,
    device: DeviceOption = "cpu",
    tuned: PurposeOption = "throughput",
    max_batch_size: BatchOption = None,
    overwrite: OverwriteOption = False,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    verify_key: VerifyKeyOption = None,
    allow_code: AllowCodeOption = False,
) -> None:
    """Write an InferenceService for KServe, and the model repository that it serves.

    DIR gets inferenceservice.yaml, for KServe's Triton runtime and the Open Inference Protocol (v2), and models/, whose
    content belongs under the storage URI.
    """
    labels = _labels(label)
    folder = find_place(place, run, artifacts).bundle
    from toolkit.bundle import Bundle
    from toolkit.deploy.kserve import REPOSITORY_NAME, SERVICE_NAME, Service, deploy_kserve
    from toolkit.deploy.triton import Wanted

    service = Service(storage_uri, service_name, labels, cpu, memory, runtime_version, service_account)
    bundle = Bundle.open(folder, verify_key, allow_code)
    wanted = Wanted(name, artifact, device, version, tuned, max_batch_size, overwrite)
    target, model = deploy_kserve(bundle, out, wanted, service)
    _say(model)
    closing_line(
        target,
        then=f"copy what is in {shlex.quote(str(target / REPOSITORY_NAME))} to {storage_uri}, then kubectl apply -f "
        f"{shlex.quote(str(target / SERVICE_NAME))}",
    )


def docker(
    place: PlaceArgument = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to make.")],
    name: NameOption = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="IMAGE", help="What it is built on (default: Python's slim image on Debian)."),
    ] = None,
    wheel: Annotated[
        Path | None,
        typer.Option(
            "--wheel", metavar="FILE", help="Wheel of toolkit to put there (default: you do it before you build)."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    verify_key: VerifyKeyOption = None,
    allow_code: AllowCodeOption = False,
) -> None:
    """Write what 'docker build' needs for an image that runs 'toolkit serve' on the bundle.

    DIR gets a Dockerfile, the bundle, and the versions of the packages that are installed here. The image has no
    PyTorch, does not run as root, and is healthy when the bundle's golden samples have passed in it.
    """
    folder = find_place(place, run, artifacts).bundle
    from toolkit.bundle import Bundle
    from toolkit.deploy.docker import Image, deploy_docker
    from toolkit.distribution import pip_wheel

    bundle = Bundle.open(folder, verify_key, allow_code)
    written = deploy_docker(bundle, out, Image(name, base, wheel, overwrite))
    where = shlex.quote(str(out))
    typer.echo(f"{written.name}: the {written.artifact} artifact behind toolkit serve, on {written.base}")
    if not written.has_wheel:
        typer.echo(f"  it lacks {written.wheel}; in a clone of toolkit: {pip_wheel('.', where)}")
    closing_line(out, then=f"docker build --tag {written.name.lower()} {where}")


def _say(model: Deployed) -> None:
    setting = model.setting
    most = f"up to {model.max_batch_size} images" if model.max_batch_size else "any number of images"
    instances = f"{setting.instances} {'instance' if setting.instances == 1 else 'instances'}"
    typer.echo(
        f"{model.name}, version {model.version}: {model.artifact.format} in Triton's {model.backend.name} backend on "
        f"{model.device}, {most} a call, {instances}"
    )
    typer.echo(f"  batches, instances and threads: {setting.source}")


def _labels(given: list[str] | None) -> dict[str, str]:
    found = {}
    for text in given or []:
        key, sign, value = text.partition("=")
        if not sign:
            raise ToolkitError(f"--label {text!r} is not KEY=VALUE, e.g. team=vision.")
        found[key] = value
    return found


SUBCOMMANDS = {"triton": triton, "kserve": kserve, "docker": docker}
