"""selftest, sign, keygen, pack and unpack, and --verify-key on the commands that open a bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.bundle import Bundle
from toolkit.bundle.writer import write_manifest
from toolkit.cli.console import telling_of_lost_signature
from toolkit.cli.main import main
from toolkit.errors import MissingDependencyError
from toolkit.files import sha256_file

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def key(run: Run, here: Path) -> Path:
    """Where 'toolkit keygen' has written ours.private.pem and ours.public.pem.

    The folder of the test is the current one.
    """
    pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
    code, out, _ = run("keygen", "ours")
    assert code == 0
    assert "ours.private.pem  keep it secret" in out
    return here / "ours.public.pem"


class TestSelftest:
    def test_a_line_per_artifact(self, run: Run, colour_bundle: Path) -> None:
        code, out, _ = run("selftest", colour_bundle)
        assert code == 0
        (line,) = out.splitlines()
        assert line.split()[:3] == ["onnx", "model.onnx", "passed:"]
        assert "3 samples alone and together, same class on 100%, largest difference" in line

    def test_a_difference_is_exit_code_1(self, run: Run, colour_bundle: Path) -> None:
        golden = json.loads((colour_bundle / "golden" / "expected.json").read_bytes())
        golden["cases"][0]["logits"][0] += 1
        (colour_bundle / "golden" / "expected.json").write_text(json.dumps(golden))
        shutil.move(colour_bundle / "manifest.json", colour_bundle.parent / "old.json")
        old = json.loads((colour_bundle.parent / "old.json").read_bytes())
        record = {
            "sha256": sha256_file(path := colour_bundle / "golden" / "expected.json"),
            "size_bytes": path.stat().st_size,
        }
        old["files"]["golden/expected.json"] = record
        (colour_bundle / "manifest.json").write_text(json.dumps(old))
        code, out, _ = run("selftest", colour_bundle)
        assert code == 1
        assert "FAILED: logits differ by 1 on golden/000.bin (blue.png)" in out

    def test_where_nothing_can_be_opened_nothing_was_tested(
        self, run: Run, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(*_: object) -> None:
            raise MissingDependencyError("onnxruntime is not installed.")

        monkeypatch.setattr("toolkit.formats.onnx.OnnxFormat.open", missing)
        code, out, err = run("selftest", colour_bundle)
        assert code == 2
        assert "not tested: onnxruntime is not installed." in out
        assert "can be opened here, so nothing was tested" in err

    def test_a_damaged_bundle_is_exit_code_2(self, run: Run, colour_bundle: Path) -> None:
        (colour_bundle / "golden" / "000.bin").write_bytes(bytes(192))
        code, out, err = run("selftest", colour_bundle)
        assert (code, out) == (2, "")
        assert "000.bin is not the file that the manifest describes" in err


class TestPackAndUnpack:
    def test_there_and_back(self, run: Run, colour_bundle: Path, here: Path) -> None:
        code, out, _ = run("pack", colour_bundle)
        assert code == 0
        assert out == f"colours.tar  0.0 MB  SHA-256 {sha256_file(here / 'colours.tar')}\n"
        assert run("unpack", "colours.tar")[:2] == (0, "bundle colours\n")
        assert Bundle.open(here / "colours").manifest == Bundle.open(colour_bundle).manifest
        code, out, err = run("unpack", "colours.tar")
        assert (code, out) == (2, "")
        assert "colours exists already: choose another folder with -o" in err
        assert run("unpack", "colours.tar", "-o", "again")[0] == 0

    def test_a_packed_bundle_given_as_a_bundle_says_what_to_do(self, run: Run, colour_bundle: Path, here: Path) -> None:
        run("pack", colour_bundle)
        code, _, err = run("inspect", "colours.tar")
        assert code == 2
        assert "colours.tar is a file, a bundle is a folder. 'toolkit unpack' makes one" in err

    def test_pack_signs_if_it_is_asked_to(self, run: Run, colour_bundle: Path, key: Path) -> None:
        code, _, _ = run("pack", colour_bundle, "--sign", "ours.private.pem", "-o", "signed.tar")
        assert code == 0
        assert run("unpack", "signed.tar", "--verify-key", key)[0] == 0
        assert Bundle.open("signed", key).signature is not None


class TestCard:
    def test_it_is_printed(self, run: Run, colour_bundle: Path) -> None:
        assert run("card", colour_bundle)[:2] == (0, (colour_bundle / "MODEL_CARD.md").read_text(encoding="utf-8"))

    def test_the_intended_use_is_the_users_own_text(self, run: Run, colour_bundle: Path, here: Path) -> None:
        (here / "use.md").write_text("Sorting of *tiles* by colour. Nothing else.\n", encoding="utf-8")
        code, _, err = run("card", colour_bundle, "--intended-use", "use.md")
        assert (code, err) == (0, "")
        assert Bundle.open(colour_bundle).manifest.intended_use == "Sorting of *tiles* by colour. Nothing else."
        card = (colour_bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
        assert "## Intended use\n\nSorting of *tiles* by colour. Nothing else.\n\n## How to load it" in card
        assert "Not written yet" not in card

    def test_a_signature_that_goes_is_told_of(self, run: Run, colour_bundle: Path, key: Path) -> None:
        Path("use.md").write_text("Tiles.")
        run("sign", colour_bundle, "--key", "ours.private.pem")
        code, _, err = run("card", colour_bundle, "--intended-use", "use.md")
        assert code == 0
        assert "is no longer signed, because its manifest has changed" in err

    @pytest.mark.parametrize(
        ("content", "said"),
        [(None, "No such file"), (b"\xff", "cannot be read as UTF-8"), (b" \n", "has 0 characters")],
    )
    def test_a_text_that_is_none(
        self, run: Run, colour_bundle: Path, here: Path, content: bytes | None, said: str
    ) -> None:
        if content is not None:
            (here / "use.md").write_bytes(content)
        code, out, err = run("card", colour_bundle, "--intended-use", "use.md")
        assert (code, out) == (2, "")
        assert said in err


class TestKeys:
    def test_keys_are_never_overwritten(self, run: Run, key: Path) -> None:
        code, _, err = run("keygen", "ours")
        assert code == 2
        assert "ours.private.pem exists already, and keys are never overwritten" in err

    def test_sign_names_the_key_and_inspect_tells_what_was_checked(
        self, run: Run, colour_bundle: Path, key: Path
    ) -> None:
        assert "signature      none" in run("inspect", colour_bundle)[1]
        code, out, _ = run("sign", colour_bundle, "--key", "ours.private.pem")
        assert code == 0
        fingerprint = out.split()[-1]
        assert (
            f"by the key {fingerprint}, not checked: give that key with --verify-key"
            in run("inspect", colour_bundle)[1]
        )
        assert f"valid, by the key {fingerprint} of {key}" in run("inspect", colour_bundle, "--verify-key", key)[1]

    @pytest.mark.parametrize("command", ["predict", "inspect", "selftest", "unpack"])
    @pytest.mark.parametrize("case", ["signed", "unsigned", "another key", "edited"])
    def test_every_command_that_opens_a_bundle_checks_the_key(
        self,
        run: Run,
        colour_bundle: Path,
        colour_image: Callable[[str], np.ndarray],
        key: Path,
        command: str,
        case: str,
    ) -> None:
        Image.fromarray(colour_image("red")).save("photo.png")
        if case != "unsigned":
            run("sign", colour_bundle, "--key", "ours.private.pem")
        if command == "unpack":
            run("pack", colour_bundle, "-o", "it.tar")
        if case == "edited":
            damaged = Path("it.tar") if command == "unpack" else colour_bundle / "manifest.json"
            damaged.write_bytes(damaged.read_bytes().replace(b'"colours"', b'"colourz"', 1))
        if case == "another key":
            run("keygen", "theirs")
            key = key.with_name("theirs.public.pem")
        given = {"predict": [colour_bundle, "photo.png"], "unpack": ["it.tar", "-o", "there"]}.get(
            command, [colour_bundle]
        )
        code, out, err = run(command, *given, "--verify-key", key)
        said = {
            "unsigned": "is not signed",
            "another key": "is signed by the key",
            "edited": "was changed after it was signed",
        }
        if case == "signed":
            assert code == 0, err
        else:
            assert (code, out) == (2, "")
            assert len(err.splitlines()) == 1
            assert said[case] in err


def test_a_signature_that_goes_is_told_of(
    run: Run, colour_bundle: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("sign", colour_bundle, "--key", "ours.private.pem")
    with telling_of_lost_signature(colour_bundle):
        pass
    assert capsys.readouterr().err == ""
    with telling_of_lost_signature(colour_bundle):
        write_manifest(colour_bundle, Bundle.open(colour_bundle).manifest)
    assert (
        "is no longer signed, because its manifest has changed: sign it again with 'toolkit sign'"
        in capsys.readouterr().err
    )
    with telling_of_lost_signature(colour_bundle):
        write_manifest(colour_bundle, Bundle.open(colour_bundle).manifest)
    assert capsys.readouterr().err == ""
