"""``toolkit serve``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from toolkit.cli.completion import complete_run
from toolkit.cli.grouped_help import MORE
from toolkit.cli.options import (
    ArtifactOption,
    ArtifactsOption,
    DeviceOption,
    ThreadsOption,
    VerifyKeyOption,
    one_of,
)
from toolkit.cli.place import find_place, is_place
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.dependencies import import_optional
from toolkit.distribution import install_hint
from toolkit.errors import ToolkitError
from toolkit.files import expanded

if TYPE_CHECKING:
    from toolkit.serving.interface import Served
    from toolkit.serving.logs import Style

PACKAGES = ("starlette", "uvicorn", "python_multipart", "prometheus_client", "grpc", "tritonclient")
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)=(.+)")
_LIMITS = "Limits"
_WHO = "Who may ask"
_PAGE = "The page"


def command(
    bundles: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]RUN|BUNDLE",
            help="Runs, bundles' folders, or folders of versions (1/, 2/, ...), each with the name that clients say "
            "(default: the newest run, under its bundle's own name).",
            show_default=False,
            autocompletion=complete_run,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; 0.0.0.0 for every network.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65_535, help="For HTTP; 0 for any that is free.")
    ] = 8000,
    grpc_port: Annotated[
        int, typer.Option("--grpc-port", metavar="N", min=0, max=65_535, help="For gRPC; 0 for any that is free.")
    ] = 8001,
    grpc: Annotated[bool, typer.Option("--grpc/--no-grpc", help="Whether gRPC is spoken too.")] = True,
    artifact: ArtifactOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            min=1,
            max=65_536,
            help="Images in one call at most, 1 for one by one (default: what is measured to be best at the start).",
        ),
    ] = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    max_body: Annotated[
        int,
        typer.Option(
            "--max-body", metavar="BYTES", min=1, help="The largest request that is taken.", rich_help_panel=_LIMITS
        ),
    ] = 64 * 2**20,
    max_images: Annotated[
        int,
        typer.Option("--max-images", metavar="N", min=1, help="Images in one request.", rich_help_panel=_LIMITS),
    ] = 256,
    max_pixels: Annotated[
        int,
        typer.Option(
            "--max-pixels",
            metavar="N",
            min=1,
            help="Refuse images of more pixels than this, before they are decoded.",
            rich_help_panel=_LIMITS,
        ),
    ] = MAX_PIXELS,
    queue: Annotated[
        int,
        typer.Option(
            "--queue",
            metavar="N",
            min=1,
            help="Images of one model that wait or are computed; more are refused with 503.",
            rich_help_panel=_LIMITS,
        ),
    ] = 512,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0.001,
            help="From a request's arrival to its answer.",
            rich_help_panel=_LIMITS,
        ),
    ] = 60.0,
    drain: Annotated[
        float,
        typer.Option(
            "--drain",
            metavar="SECONDS",
            min=0,
            help="For requests that were taken, once the server is told to end.",
            rich_help_panel=MORE,
        ),
    ] = 30.0,
    shutdown_delay: Annotated[
        float,
        typer.Option(
            "--shutdown-delay",
            metavar="SECONDS",
            min=0,
            help="Go on taking requests for so long after ready has turned false.",
            rich_help_panel=MORE,
        ),
    ] = 0.0,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            metavar="FILE",
            help="Keys, one a line, of which every request must carry one.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    ssl_certfile: Annotated[
        Path | None,
        typer.Option(
            "--ssl-certfile", metavar="FILE", help="Certificate with its chain (PEM), for TLS.", rich_help_panel=_WHO
        ),
    ] = None,
    ssl_keyfile: Annotated[
        Path | None,
        typer.Option("--ssl-keyfile", metavar="FILE", help="Key of the certificate (PEM).", rich_help_panel=_WHO),
    ] = None,
    verify_key: VerifyKeyOption = None,
    page: Annotated[
        bool,
        typer.Option("--page/--no-page", help="Whether / is a page to try a model on.", rich_help_panel=_PAGE),
    ] = True,
    page_model: Annotated[
        bool,
        typer.Option(
            "--page-model",
            help="Hand the ONNX artifact and the golden samples to whoever may ask, for browsers to compute with.",
            rich_help_panel=_PAGE,
        ),
    ] = False,
    web_assets: Annotated[
        Path | None,
        typer.Option(
            "--web-assets",
            metavar="FOLDER",
            help="Where 'npm install onnxruntime-web' was called; for --page-model.",
            rich_help_panel=_PAGE,
        ),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            "--log",
            metavar="[text|json]",
            help="How standard error is written (default: text on a terminal, JSON elsewhere).",
            callback=one_of("text", "json"),
        ),
    ] = None,
) -> None:
    """Serve bundles over HTTP and gRPC: the Open Inference Protocol, and POST /predict for image files.

    Ready once the golden samples have passed on this machine. Ends on SIGTERM and Ctrl-C, when the requests that it has
    taken are answered; the exit code is 1 if some were not.
    """
    if (ssl_certfile is None) != (ssl_keyfile is None):
        raise ToolkitError("--ssl-certfile and --ssl-keyfile go together: give both, or neither.")
    served = [_served(text, artifacts) for text in bundles or (None,)]
    for package in PACKAGES:
        import_optional(package, f"toolkit serve needs {package}, which is not installed: {install_hint('serve')}")
    from toolkit.cli.memory import bound_memory
    from toolkit.serving.hosted import Opening
    from toolkit.serving.interface import Limits
    from toolkit.serving.page import PageOptions, find_engine
    from toolkit.serving.server import ServerOptions, Tls, serve

    engine = None if web_assets is None else find_engine(web_assets)
    bound_memory(device)
    options = ServerOptions(
        host=host,
        port=port,
        grpc_port=grpc_port if grpc else None,
        limits=Limits(max_body, max_images, max_pixels, queue, timeout, drain),
        opening=Opening(artifact, device, threads, batch_size, verify_key),
        key_file=api_key_file,
        tls=Tls(ssl_certfile, ssl_keyfile) if ssl_certfile is not None and ssl_keyfile is not None else None,
        page=PageOptions(page_model, engine) if page else None,
        log=cast("Style | None", log),
        shutdown_delay=shutdown_delay,
    )
    if not serve(served, options, typer.echo):
        raise typer.Exit(1)


def _served(text: str | None, artifacts: Path) -> Served:
    """Return what an argument means: ``NAME=PLACE``, or a place whose path may hold such a sign itself."""
    from toolkit.serving.interface import Served
    from toolkit.serving.models import versions_in

    name, place = None, text
    named = _NAMED.fullmatch(text or "")
    if text is not None and named is not None and not is_place(expanded(text)):
        name, place = named[1], named[2]
    if place is not None and not is_place(folder := expanded(place)) and versions_in(folder) is not None:
        return Served(folder, name)
    return Served(find_place(place, None, artifacts).bundle, name)
