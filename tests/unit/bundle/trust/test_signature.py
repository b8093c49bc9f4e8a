from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from toolkit.bundle import Bundle
from toolkit.bundle.trust.signature import Signature, fingerprint, make_keys, make_signature
from toolkit.bundle.writer import sign_bundle, write_manifest
from toolkit.errors import BundleError, FileWriteError, IntegrityError, MissingDependencyError, SignatureError

pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


@dataclass(frozen=True)
class Keys:
    private: Path
    public: Path


def keys_in(folder: Path, name: str) -> Keys:
    keys = Keys(folder / f"{name}.private.pem", folder / f"{name}.public.pem")
    make_keys(keys.private, keys.public)
    return keys


@pytest.fixture
def ours(tmp_path: Path) -> Keys:
    return keys_in(tmp_path, "ours")


@pytest.fixture
def signed(colour_bundle: Path, ours: Keys) -> Path:
    sign_bundle(colour_bundle, ours.private)
    return colour_bundle


@pytest.fixture
def nothing_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if anything of the bundle but its signature is parsed."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("parsed before the signature was checked")

    monkeypatch.setattr("toolkit.bundle.folder.parse_manifest", refuse)
    monkeypatch.setattr("toolkit.bundle.folder.check_folder", refuse)


def test_a_signed_bundle_opens_with_its_key_and_without(signed: Path, ours: Keys) -> None:
    assert Bundle.open(signed, ours.public).signature == Bundle.open(signed).signature
    assert Bundle.open(signed, str(ours.public)).manifest.name == "colours"


def test_the_signature_covers_the_bytes_of_the_manifest_and_any_tool_can_check_it(signed: Path, ours: Keys) -> None:
    raw = json.loads((signed / "manifest.json.sig").read_bytes())
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(raw["public_key"]))
    content = (signed / "manifest.json").read_bytes()
    key.verify(base64.b64decode(raw["signature"]), content)
    with pytest.raises(InvalidSignature):
        key.verify(base64.b64decode(raw["signature"]), content + b" ")


def test_the_same_bundle_and_key_give_the_same_signature(signed: Path, ours: Keys) -> None:
    before = (signed / "manifest.json.sig").read_bytes()
    sign_bundle(signed, ours.private)
    assert (signed / "manifest.json.sig").read_bytes() == before


@pytest.mark.usefixtures("nothing_is_parsed")
class TestWithAKeyBeforeAnythingIsParsed:
    def test_an_unsigned_bundle_is_refused(self, colour_bundle: Path, ours: Keys) -> None:
        with pytest.raises(SignatureError, match=r"bundle is not signed: sign it with 'toolkit sign'"):
            Bundle.open(colour_bundle, ours.public)

    def test_the_bundle_of_another_key_is_refused_and_both_keys_are_named(
        self, signed: Path, ours: Keys, tmp_path: Path
    ) -> None:
        theirs = keys_in(tmp_path, "theirs")
        known = fingerprint(json.loads((signed / "manifest.json.sig").read_bytes())["public_key"])
        with pytest.raises(
            SignatureError, match=rf"is signed by the key {known}, not by [0-9a-f]{{16}} of .*theirs\.public\.pem"
        ):
            Bundle.open(signed, theirs.public)

    def test_an_edited_manifest_is_refused(self, signed: Path, ours: Keys) -> None:
        path = signed / "manifest.json"
        path.write_bytes(path.read_bytes().replace(b'"colours"', b'"colourz"'))
        with pytest.raises(SignatureError, match="was changed after it was signed, so the signature is stale"):
            Bundle.open(signed, ours.public)

    def test_a_manifest_of_which_only_the_line_ends_were_changed_is_called_so(self, signed: Path, ours: Keys) -> None:
        path = signed / "manifest.json"
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        with pytest.raises(SignatureError, match=r"the manifest of .* has other line ends than it was written with"):
            Bundle.open(signed, ours.public)

    def test_a_signature_that_claims_to_fit_an_edited_manifest_is_refused(self, signed: Path, ours: Keys) -> None:
        path, signature = signed / "manifest.json", signed / "manifest.json.sig"
        path.write_bytes(path.read_bytes().replace(b'"colours"', b'"colourz"'))
        raw = json.loads(signature.read_bytes())
        raw["manifest_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        signature.write_text(json.dumps(raw))
        with pytest.raises(SignatureError, match="is not valid: the manifest or the signature was changed"):
            Bundle.open(signed, ours.public)

    def test_a_signature_of_another_key_that_claims_to_be_ours_is_refused(
        self, signed: Path, ours: Keys, tmp_path: Path
    ) -> None:
        content = (signed / "manifest.json").read_bytes()
        forged = make_signature(content, keys_in(tmp_path, "theirs").private)
        true = make_signature(content, ours.private)
        Signature.model_copy(forged, update={"public_key": true.public_key}).save(signed / "manifest.json.sig")
        with pytest.raises(SignatureError, match="is not valid"):
            Bundle.open(signed, ours.public)

    @pytest.mark.parametrize(
        "content",
        [b"", b"{}", b"[" * 5000, b'{"algorithm": "none"}', b"\0" * 64, b'{"signature": "", "signature": ""}'],
    )
    def test_what_is_no_signature_is_refused(self, signed: Path, ours: Keys, content: bytes) -> None:
        (signed / "manifest.json.sig").write_bytes(content)
        for key in (ours.public, None):
            with pytest.raises(SignatureError, match=r"manifest\.json\.sig is not a signature that toolkit wrote"):
                Bundle.open(signed, key)

    def test_a_huge_signature_is_not_read(self, signed: Path) -> None:
        (signed / "manifest.json.sig").write_bytes(b" " * 20_000)
        with pytest.raises(IntegrityError, match=r"manifest\.json\.sig is larger than"):
            Bundle.open(signed)

    def test_a_link_in_its_place_is_refused(self, signed: Path, tmp_path: Path) -> None:
        (signed / "manifest.json.sig").rename(tmp_path / "outside")
        (signed / "manifest.json.sig").symlink_to(tmp_path / "outside")
        with pytest.raises(IntegrityError, match=r"manifest\.json\.sig is a symbolic link"):
            Bundle.open(signed)


def test_a_changed_file_is_refused_although_the_signature_is_right(signed: Path, ours: Keys) -> None:
    (signed / "golden" / "000.bin").write_bytes(bytes(192))
    with pytest.raises(IntegrityError, match=r"000\.bin is not the file"):
        Bundle.open(signed, ours.public)


def test_a_stale_signature_is_an_error_without_a_key_too(signed: Path) -> None:
    path = signed / "manifest.json"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(SignatureError, match=r"signature is stale\. Sign it again with 'toolkit sign'"):
        Bundle.open(signed)


def test_signing_again_replaces_a_stale_signature(signed: Path, ours: Keys) -> None:
    path = signed / "manifest.json"
    path.write_bytes(path.read_bytes() + b"\n")
    sign_bundle(signed, ours.private)
    assert Bundle.open(signed, ours.public).signature is not None


def test_writing_into_the_manifest_removes_the_signature(signed: Path) -> None:
    write_manifest(signed, Bundle.open(signed).manifest)
    assert not (signed / "manifest.json.sig").exists()
    assert Bundle.open(signed).signature is None


def test_a_damaged_bundle_is_not_signed(colour_bundle: Path, ours: Keys) -> None:
    (colour_bundle / "extra").write_bytes(b"")
    with pytest.raises(IntegrityError, match="extra is not listed"):
        sign_bundle(colour_bundle, ours.private)
    assert not (colour_bundle / "manifest.json.sig").exists()


def test_a_bundle_is_signed_from_inside_its_folder(
    colour_bundle: Path, ours: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(colour_bundle)
    sign_bundle(".", ours.private)
    assert Bundle.open(".", ours.public).signature is not None
    assert [path.name for path in colour_bundle.parent.iterdir()] == ["bundle"]


class TestKeys:
    @pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
    def test_only_the_owner_may_read_the_private_key(self, ours: Keys) -> None:
        assert stat.S_IMODE(ours.private.stat().st_mode) == 0o600

    def test_no_key_is_ever_overwritten(self, ours: Keys, tmp_path: Path) -> None:
        before = ours.private.read_bytes()
        with pytest.raises(FileWriteError, match=r"ours\.private\.pem exists already, and keys are never overwritten"):
            make_keys(ours.private, ours.public)
        with pytest.raises(FileWriteError, match=r"ours\.public\.pem exists already"):
            make_keys(tmp_path / "new.private.pem", ours.public)
        assert ours.private.read_bytes() == before
        assert not (tmp_path / "new.private.pem").exists()

    def test_a_folder_that_is_not_there_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(FileWriteError, match=r"cannot write .*nowhere/a\.private\.pem"):
            make_keys(tmp_path / "nowhere" / "a.private.pem", tmp_path / "nowhere" / "a.public.pem")

    def test_a_private_key_without_its_public_one_is_not_left_behind(self, tmp_path: Path) -> None:
        with pytest.raises(FileWriteError, match="cannot write"):
            make_keys(tmp_path / "a.private.pem", tmp_path / "nowhere" / "a.public.pem")
        assert list(tmp_path.iterdir()) == []

    def test_half_a_key_is_not_left_on_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(FileWriteError, match=r"cannot write .*a\.private\.pem: No space left on device"):
            make_keys(tmp_path / "a.private.pem", tmp_path / "a.public.pem")
        assert list(tmp_path.iterdir()) == []

    def test_a_key_that_cannot_be_used_says_why(self, colour_bundle: Path, ours: Keys, tmp_path: Path) -> None:
        key = rsa.generate_private_key(65537, 2048)
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        contents = {
            "rsa": key.private_bytes(pem, pkcs8, serialization.NoEncryption()),
            "locked": key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"word")),
            "rsa public": key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo),
            "noise": b"noise",
        }
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        for name, said in {
            "rsa": "rsa is not an Ed25519 key",
            "locked": "is protected by a password",
            "noise": "noise is not a private key in PEM",
            "nothing": "the key .*nothing cannot be read",
            ours.public.name: "is a public key: give the private one",
        }.items():
            with pytest.raises(SignatureError, match=said):
                sign_bundle(colour_bundle, tmp_path / name)
        sign_bundle(colour_bundle, ours.private)
        for name, said in {
            "rsa public": "rsa public is not an Ed25519 key",
            "noise": "noise is not a public key in PEM",
            "nothing": "the key .*nothing cannot be read",
            ours.private.name: "is a private key: give the public one",
        }.items():
            with pytest.raises(SignatureError, match=said):
                Bundle.open(colour_bundle, tmp_path / name)


def test_without_the_package_the_extra_is_named(signed: Path, ours: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'vision-deploy-toolkit\[sign\]'"):
        Bundle.open(signed, ours.public)
    assert Bundle.open(signed).signature is not None


def test_a_signature_error_is_an_error_of_the_bundle() -> None:
    assert issubclass(SignatureError, BundleError)
