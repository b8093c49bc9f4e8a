"""Ed25519 signatures (RFC 8032) over the bytes of ``manifest.json``, which holds the hash of every other file.

The signature lies beside the manifest. The file also names the public key and the manifest it was made for, so that a
wrong key and a manifest that changed since can be told apart; neither is believed without the signature.
"""

from __future__ import annotations

import base64
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from toolkit.bundle.content import line_ends_changed, with_other_line_ends
from toolkit.bundle.manifest import SIGNATURE_NAME, Sha256
from toolkit.bundle.trust.check import small_file
from toolkit.bundle.trust.strict_json import parse_json
from toolkit.dependencies import import_optional
from toolkit.distribution import install_hint
from toolkit.errors import FileWriteError, SignatureError
from toolkit.files import open_regular
from toolkit.printable import printable
from toolkit.results import Record

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

LARGEST_FILE = 16 * 1024
"""Bytes of a signature or key file; real ones have some hundreds."""
SIGN_AGAIN = "Sign it again with 'toolkit sign'."


class Signature(Record):
    """``manifest.json.sig``."""

    algorithm: Literal["Ed25519"] = "Ed25519"
    public_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]
    """The signer's public key, 32 bytes as Base64."""
    manifest_sha256: Sha256
    """Digest of the manifest that was signed."""
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$")]
    """Of the bytes of the manifest, 64 bytes as Base64."""


def fingerprint(public_key: str) -> str:
    """Return what people compare keys by: the first 16 digits of the SHA-256 of a public key given as Base64."""
    return hashlib.sha256(base64.b64decode(public_key)).hexdigest()[:16]


def read_signature(folder: Path) -> bytes | None:
    """Return the content of a bundle's signature file; None if it is not signed.

    Raises:
        BundleError: it cannot be read.
        IntegrityError: it is a link, no regular file, or too large.
    """
    path = folder / SIGNATURE_NAME
    return small_file(path, LARGEST_FILE) if os.path.lexists(path) else None


def check_signature(
    content: bytes | None, manifest: bytes, where: Path, verify_key: str | Path | None = None
) -> Signature | None:
    """Check a signature before the manifest is parsed.

    Without a key only a stale signature is noticed: one that was made for another manifest than the one beside it.

    Args:
        content: the signature file; None if there is none.
        manifest: the bytes of the manifest.
        where: the bundle, for messages.
        verify_key: PEM file of the public key that must have signed it; None for any or no signature.

    Returns:
        The signature; None if there is none and none is asked for.

    Raises:
        SignatureError: the bundle is not signed, by another key, or was changed since; or the key cannot be used.
        MissingDependencyError: a key is given and the package ``cryptography`` is not installed.
    """
    key = None if verify_key is None else _public_key(Path(verify_key))
    if content is None:
        if key is not None:
            raise SignatureError(
                f"{where} is not signed: sign it with 'toolkit sign', or leave --verify-key out if you trust its "
                "source."
            )
        return None
    signature = _parsed(content, where)
    if key is not None and _encoded(key) != signature.public_key:
        ours, theirs = fingerprint(_encoded(key)), fingerprint(signature.public_key)
        raise SignatureError(
            f"{where} is signed by the key {theirs}, not by {ours} of {verify_key}. Get it from whom you trust."
        )
    if hashlib.sha256(manifest).hexdigest() != signature.manifest_sha256:
        if signature.manifest_sha256 in (hashlib.sha256(text).hexdigest() for text in with_other_line_ends(manifest)):
            raise SignatureError(line_ends_changed(f"the manifest of {where}"))
        raise SignatureError(
            f"the manifest of {where} was changed after it was signed, so the signature is stale. {SIGN_AGAIN}"
        )
    if key is not None:
        _require_valid(key, signature, manifest, where)
    return signature


def make_signature(manifest: bytes, key_file: Path) -> Signature:
    """Sign the bytes of a manifest.

    Args:
        manifest: what is signed.
        key_file: PEM file of the private key.

    Raises:
        SignatureError: the key cannot be used.
        MissingDependencyError: the package ``cryptography`` is not installed.
    """
    key = _private_key(key_file)
    return Signature(
        public_key=_encoded(key.public_key()),
        manifest_sha256=hashlib.sha256(manifest).hexdigest(),
        signature=base64.b64encode(key.sign(manifest)).decode(),
    )


def make_keys(private_file: Path, public_file: Path) -> str:
    """Write a new pair of keys as PEM files, the private one readable by its owner only.

    Files that exist are never overwritten.

    Returns:
        The fingerprint of the public key.

    Raises:
        FileWriteError: a file exists already or cannot be written.
        MissingDependencyError: the package ``cryptography`` is not installed.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if existing := next((path for path in (private_file, public_file) if os.path.lexists(path)), None):
        raise FileWriteError(f"{existing} exists already, and keys are never overwritten: choose another name.")
    _write_new(private_file, private, 0o600)
    try:
        _write_new(public_file, public, 0o644)
    except FileWriteError:
        private_file.unlink()
        raise
    return fingerprint(_encoded(key.public_key()))


def _parsed(content: bytes, where: Path) -> Signature:
    try:
        return Signature.model_validate(parse_json(content))
    except (ValidationError, ValueError) as error:
        raise SignatureError(f"{where / SIGNATURE_NAME} is not a signature that toolkit wrote. {SIGN_AGAIN}") from error


def _require_valid(key: Ed25519PublicKey, signature: Signature, manifest: bytes, where: Path) -> None:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(base64.b64decode(signature.signature), manifest)
    except InvalidSignature as error:
        raise SignatureError(
            f"the signature of {where} is not valid: the manifest or the signature was changed. Copy the bundle again."
        ) from error


def _public_key(path: Path) -> Ed25519PublicKey:
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _key_file(path)
    if b"PRIVATE KEY" in content:
        raise SignatureError(
            f"{path} is a private key: give the public one, and keep the private one where only signing happens."
        )
    try:
        key = load_pem_public_key(content)
    except (
        Exception
    ) as error:  # cryptography raises ValueError, UnsupportedAlgorithm and others, whatever is wrong with the file
        raise SignatureError(f"{path} is not a public key in PEM: 'toolkit keygen' makes one.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(f"{path} is not an Ed25519 key: 'toolkit keygen' makes one.")
    return key


def _private_key(path: Path) -> Ed25519PrivateKey:
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _key_file(path)
    if b"PUBLIC KEY" in content:
        raise SignatureError(f"{path} is a public key: give the private one, which signs.")
    if b"ENCRYPTED" in content:
        raise SignatureError(
            f"{path} is protected by a password, which toolkit cannot ask for: decrypt it into a file that only you "
            "can read."
        )
    try:
        key = load_pem_private_key(content, password=None)
    except Exception as error:  # see _public_key
        raise SignatureError(f"{path} is not a private key in PEM: 'toolkit keygen' makes one.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path} is not an Ed25519 key: 'toolkit keygen' makes one.")
    return key


def _key_file(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(LARGEST_FILE)
    except OSError as error:
        raise SignatureError(f"the key {printable(path)} cannot be read: {error.strerror}.") from error


def _encoded(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()


def _write_new(path: Path, content: bytes, mode: int) -> None:
    # Not beside the target and moved: a move would overwrite a key that another process has written meanwhile.
    created = False
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        created = True
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        if created:  # half a key is none, and would be in the way of a whole one
            with suppress(OSError):
                path.unlink()
        raise FileWriteError(f"cannot write {path}: {error.strerror}. Choose a folder you may write to.") from error


def _require_cryptography() -> None:
    # The module that needs its shared library: the package itself is plain Python.
    import_optional(
        "cryptography.hazmat.primitives.asymmetric.ed25519",
        f"signatures need the package cryptography: {install_hint('sign')}",
    )
