"""The folder that is shipped: manifest, artifacts, golden samples, model card."""

from toolkit.bundle.folder import Bundle, read_manifest
from toolkit.bundle.manifest import ArtifactRecord, Manifest

__all__ = ["ArtifactRecord", "Bundle", "Manifest", "read_manifest"]
