from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pointed_at import write_whole_run

pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")

from toolkit.serving import server
from toolkit.serving.server import ServerOptions

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command would have served, and how."""
    calls: list[Any] = []

    def serve(what: Any, options: ServerOptions, say: Callable[[str], None]) -> bool:
        calls.append((what, options))
        say("serving it")
        return len(calls) < 2

    monkeypatch.setattr(server, "serve", serve)
    return calls


def test_a_run_a_bundle_and_a_folder_of_versions_each_with_a_name_or_without(
    run: Run, here: Path, colour_bundle_once: Path, served: list[Any]
) -> None:
    write_whole_run(Path("artifacts"), colour_bundle_once)
    for name in ("bundle", "a=b", "flowers/7"):
        shutil.copytree(colour_bundle_once, name)
    Path("empty").mkdir()
    code, out, err = run("serve", "tiny", "mine=bundle", "a=b", "flowers", "x=flowers", "y=a=b", "z=empty")
    assert (code, out, err) == (0, "serving it\n", "")
    ((what, _),) = served
    assert [(one.name, str(one.path)) for one in what] == [
        (None, "artifacts/tiny/bundle"),
        ("mine", "bundle"),
        (None, "a=b"),
        (None, "flowers"),
        ("x", "flowers"),
        ("y", "a=b"),
        ("z", "empty"),
    ]


def test_the_newest_run_is_served_where_nothing_is_said(
    run: Run, here: Path, colour_bundle_once: Path, served: list[Any]
) -> None:
    write_whole_run(Path("artifacts"), colour_bundle_once)
    assert run("serve")[0] == 0
    assert [str(one.path) for one in served[0][0]] == ["artifacts/tiny/bundle"]


def test_options_reach_the_server(run: Run, here: Path, colour_bundle_once: Path, served: list[Any]) -> None:
    words = "--host ::1 --port 0 --no-grpc --batch-size 4 --threads 2 --max-body 5 --max-images 6 --max-pixels 7"
    words += " --queue 8 --timeout 9.5 --drain 10 --shutdown-delay 11 --api-key-file keys --ssl-certfile c"
    words += " --ssl-keyfile k --verify-key v --artifact onnx --device cpu"
    assert run("serve", colour_bundle_once, *words.split())[0] == 0
    options = served[0][1]
    assert (options.host, options.port, options.grpc_port, options.shutdown_delay) == ("::1", 0, None, 11.0)
    limits = options.limits
    assert (limits.body_bytes, limits.images, limits.pixels, limits.queue) == (5, 6, 7, 8)
    assert (limits.seconds, limits.drain_seconds) == (9.5, 10.0)
    opening = options.opening
    assert (opening.threads, opening.batch_size, opening.artifact, opening.device) == (2, 4, "onnx", "cpu")
    assert (str(opening.verify_key), str(options.key_file)) == ("v", "keys")
    assert options.tls is not None
    assert (str(options.tls.certificate), str(options.tls.key)) == ("c", "k")


def test_defaults_are_those_of_the_server(run: Run, here: Path, colour_bundle_once: Path, served: list[Any]) -> None:
    run("serve", colour_bundle_once)
    assert served[0][1] == ServerOptions()


def test_requests_that_were_not_answered_are_exit_code_1(
    run: Run, here: Path, colour_bundle_once: Path, served: list[Any]
) -> None:
    assert run("serve", colour_bundle_once)[0] == 0
    assert run("serve", colour_bundle_once)[0] == 1


def test_what_is_missing_is_said_with_how_to_get_it(
    run: Run, here: Path, colour_bundle_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.cli.serve.PACKAGES", ("starlett",))
    assert run("serve", colour_bundle_once) == (
        2,
        "",
        "toolkit: toolkit serve needs starlett, which is not installed: pip install 'vision-deploy-toolkit[serve]'.\n",
    )
