from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from served_page import PredictorModel, SomeModels, application
from starlette.testclient import TestClient

from toolkit.bundle import read_manifest
from toolkit.bundle.writer import write_manifest
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import MissingDependencyError
from toolkit.serving.interface import ModelState
from toolkit.serving.page import ENGINE_FILES, PageOptions, browser_artifact, find_engine, public_paths

STATIC = Path(__file__).parents[3] / "toolkit" / "serving" / "page" / "static"
OWNED = ("/page/model.onnx", "/page/golden.json", "/page/golden.bin")
QUERY = "?model=colours&version=1"


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """Return a folder that looks like that of onnxruntime-web."""
    folder = tmp_path / "node_modules" / "onnxruntime-web" / "dist"
    folder.mkdir(parents=True)
    for name in (*ENGINE_FILES, "ort.all.min.js"):
        (folder / name).write_text(f"// {name}")
    return folder


@pytest.fixture
def models(colour_bundle: Path) -> Iterator[SomeModels]:
    model = PredictorModel(colour_bundle)
    yield SomeModels(model)
    model.predictor.close()


def client(models: SomeModels, options: PageOptions, key: str | None = None) -> TestClient:
    return TestClient(application(models, options, key))


def test_everything_that_is_answered_keeps_a_browser_to_this_server(models: SomeModels, engine: Path) -> None:
    asked = client(models, PageOptions(hand_out_model=True, engine=engine))
    paths = [*sorted(public_paths()), "/page/models", *(f"{path}{QUERY}" for path in OWNED), "/page/nothing"]
    for path in paths:
        answer = asked.get(path)
        assert answer.status_code == (404 if path == "/page/nothing" else 200), path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        assert "'unsafe-eval'" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
    types = {path: asked.get(path).headers["content-type"].partition(";")[0] for path in public_paths()}
    assert types["/"] == "text/html"
    assert types["/page/page.js"] == types["/page/engine/ort.wasm.min.mjs"] == "text/javascript"
    assert types["/page/engine/ort-wasm-simd-threaded.wasm"] == "application/wasm"


def test_the_page_needs_nothing_from_elsewhere_and_nothing_inline() -> None:
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href)=["'](?!page/)""", html) == []
    assert re.findall(r"<script[^>]*>[^<]|<style|style=|\son\w+=", html) == []
    for file in STATIC.iterdir():
        addresses = re.findall(r"https?://[^\s\"']+", file.read_text(encoding="utf-8"))
        assert [address for address in addresses if address != "http://www.w3.org/2000/svg"] == [], file.name


def test_every_element_that_the_script_asks_for_is_there() -> None:
    html, script = ((STATIC / name).read_text(encoding="utf-8") for name in ("index.html", "page.js"))
    identifiers = re.findall(r'\bid="([\w-]+)"', html)
    assert len(identifiers) == len(set(identifiers))
    assert {*re.findall(r'\$\("([\w-]+)"\)', script), "file", "capture"} <= set(identifiers)


def test_a_file_that_did_not_change_is_not_sent_again(models: SomeModels, engine: Path) -> None:
    asked = client(models, PageOptions(hand_out_model=True, engine=engine))
    for path in ("/", "/page/page.js", *(f"{path}{QUERY}" for path in OWNED)):
        first = asked.get(path)
        again = asked.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path


@pytest.mark.parametrize("path", ["/page/../__init__.py", "/page/..%2f__init__.py", "/page/engine/ort.all.min.js"])
def test_no_other_file_is_given(models: SomeModels, engine: Path, path: str) -> None:
    assert client(models, PageOptions(engine=engine)).get(path).status_code == 404


def test_what_is_said_of_a_model(models: SomeModels, engine: Path) -> None:
    (shown,) = client(models, PageOptions(hand_out_model=True, engine=engine)).get("/page/models").json()["models"]
    manifest = models.get("colours").manifest
    assert (shown["name"], shown["version"], shown["server"]) == ("colours", "1", "onnx, float32")
    assert shown["labels"] == ["blue", "green", "red"]
    assert shown["preprocessing"] == {**manifest.preprocessing.model_dump(mode="json"), "reduced": False}
    assert shown["input"]["normalization_in_graph"] is True
    assert shown["why_not"] is None
    assert shown["browser"] == {
        "bytes": manifest.artifacts[0].size_bytes,
        "sha256": manifest.artifacts[0].sha256,
        "golden": True,
        "tolerance": shown["browser"]["tolerance"],
    }
    assert shown["browser"]["tolerance"]["logits_absolute"] == TOLERANCES["float32"].logits_absolute
    assert "origin" not in json.dumps(shown)


def test_a_model_that_is_not_ready_is_said(models: SomeModels) -> None:
    models.others.append(ModelState("dogs", "3", "UNAVAILABLE", "/secret/place is damaged"))
    shown = client(models, PageOptions()).get("/page/models").json()["models"]
    assert [each["name"] for each in shown] == ["colours", "dogs"]
    assert shown[1] == {"name": "dogs", "not_ready": "no version of dogs is ready."}


def test_the_model_is_its_owners_unless_they_say_otherwise(models: SomeModels, engine: Path) -> None:
    asked = client(models, PageOptions(engine=engine))
    (shown,) = asked.get("/page/models").json()["models"]
    assert shown["browser"] is None
    assert "--page-model" in shown["why_not"]
    for path in OWNED:
        answer = asked.get(f"{path}{QUERY}")
        assert answer.status_code == 404
        assert answer.json()["error"].startswith("the browser gets no model: this server does not hand out its model")


def test_without_the_package_the_page_says_what_to_install(models: SomeModels) -> None:
    (shown,) = client(models, PageOptions(hand_out_model=True)).get("/page/models").json()["models"]
    assert shown["browser"] is None
    assert "npm install onnxruntime-web" in shown["why_not"]


def test_what_is_handed_out_is_what_the_bundle_holds(models: SomeModels, engine: Path) -> None:
    asked, bundle = client(models, PageOptions(hand_out_model=True, engine=engine)), models.get("colours").path
    model, golden, pixels = (asked.get(f"{path}{QUERY}") for path in OWNED)
    assert model.content == (bundle / "model.onnx").read_bytes()
    assert golden.content == (bundle / "golden" / "expected.json").read_bytes()
    cases = golden.json()["cases"]
    assert pixels.content == b"".join((bundle / case["file"]).read_bytes() for case in cases)
    outputs = models.models["colours", "1"].predictor.run(  # type: ignore[attr-defined]
        np.frombuffer(pixels.content, np.uint8).reshape(-1, 8, 8, 3)
    )
    np.testing.assert_allclose(outputs["logits"], [case["logits"] for case in cases], atol=1e-5)


def test_a_file_that_was_changed_since_is_not_handed_out(models: SomeModels, engine: Path) -> None:
    asked, bundle = client(models, PageOptions(hand_out_model=True, engine=engine)), models.get("colours").path
    (bundle / "model.onnx").write_bytes(b"another model")
    answer = asked.get(f"/page/model.onnx{QUERY}")
    assert answer.status_code == 404
    assert answer.json()["error"].startswith("model.onnx has 13 bytes")
    shutil.rmtree(bundle)
    answer = asked.get(f"/page/golden.json{QUERY}")
    assert answer.json() == {"error": "the bundle of colours is not where it was any more."}
    assert str(bundle) not in answer.text


@pytest.mark.parametrize("query", ["", "?model=dogs", "?model=colours&version=9"])
def test_a_model_that_there_is_not_is_refused(models: SomeModels, engine: Path, query: str) -> None:
    answer = client(models, PageOptions(hand_out_model=True, engine=engine)).get(f"/page/model.onnx{query}")
    assert answer.status_code == 404


def test_with_keys_the_page_comes_without_one_and_nothing_of_a_model_does(models: SomeModels, engine: Path) -> None:
    asked = client(models, PageOptions(hand_out_model=True, engine=engine), key="k" * 16)
    for path in public_paths():
        assert asked.get(path).status_code == 200
        assert b"colours" not in asked.get(path).content
    for path in ("/page/models", *(f"{path}{QUERY}" for path in OWNED)):
        assert asked.get(path).status_code == 401
        assert asked.get(path, headers={"authorization": f"Bearer {'k' * 16}"}).status_code == 200


def test_which_artifact_a_browser_gets(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    (artifact,) = manifest.artifacts
    assert browser_artifact(manifest) == artifact
    half = artifact.model_copy(update={"format": "onnx_fp16", "precision": "float16"})
    split = artifact.model_copy(update={"further_files": {"model.onnx.data": artifact.all_files["model.onnx"]}})
    script = artifact.model_copy(update={"format": "torchscript", "family": "torchscript"})
    for others in ([], [half], [split], [script], [half, split, script]):
        assert browser_artifact(manifest.model_copy(update={"artifacts": tuple(others)})) is None
    assert browser_artifact(manifest.model_copy(update={"artifacts": (script, half, artifact)})) == artifact


def test_a_bundle_that_a_browser_cannot_run_is_said(colour_bundle: Path, engine: Path) -> None:
    manifest = read_manifest(colour_bundle)
    (artifact,) = manifest.artifacts
    write_manifest(
        colour_bundle, manifest.model_copy(update={"artifacts": (artifact.model_copy(update={"precision": "x"}),)})
    )
    model = PredictorModel(colour_bundle)
    (shown,) = client(SomeModels(model), PageOptions(True, engine)).get("/page/models").json()["models"]
    model.predictor.close()
    assert shown["why_not"] == "the bundle has no ONNX artifact in float32 that is one file"


@pytest.mark.parametrize(
    "inside", ["", "node_modules", "node_modules/onnxruntime-web", "node_modules/onnxruntime-web/dist"]
)
def test_the_package_is_found_wherever_somebody_points(engine: Path, tmp_path: Path, inside: str) -> None:
    assert find_engine(tmp_path / inside) == engine.resolve()


@pytest.mark.parametrize("lacking", [*ENGINE_FILES, None])
def test_a_folder_without_it_is_refused_in_a_sentence(engine: Path, tmp_path: Path, lacking: str | None) -> None:
    if lacking is None:
        shutil.rmtree(engine)
    else:
        (engine / lacking).unlink()
    with pytest.raises(MissingDependencyError, match="npm install onnxruntime-web"):
        find_engine(tmp_path)
