"""What a person reads beside a Dockerfile that ``toolkit deploy docker`` wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.distribution import DISTRIBUTION, pip_wheel
from toolkit.printable import printable

if TYPE_CHECKING:
    from toolkit.deploy.docker import Written

README_NAME = "README.md"


def readme(written: Written) -> str:
    """Return the README, as Markdown."""
    image = written.name.lower()
    run = "docker run --rm --read-only --tmpfs /tmp --cap-drop ALL -p 8000:8000 -p 8001:8001"
    parts = (
        f"# `{written.name}` in a container",
        f"An image that runs `toolkit serve` on the bundle in `bundle/` (its `{written.artifact}` artifact), without "
        "PyTorch and not as root. Written by `toolkit deploy docker`.",
        "## Build it\n\n" + _build(written, image),
        f"## Run it\n\n```bash\n{run} {image}\ncurl localhost:8000/v2/health/ready\ncurl --data-binary @photo.jpg "
        "-H 'Content-Type: image/jpeg' localhost:8000/predict\n```\n\n"
        "Further options of `toolkit serve` are written behind the image's name. On SIGTERM it answers what it has "
        "accepted, for up to 30 seconds: `docker stop --time 40`, and as long a `terminationGracePeriodSeconds` in "
        "Kubernetes. The health check speaks HTTP; a server that is given a TLS certificate needs another one.",
        "## What is pinned\n\n"
        f"- `FROM {written.base}`: a version of Python and a release of Debian, which get security fixes whenever the "
        "image is built anew. To build of the same bytes each time, pin a digest: `docker buildx imagetools inspect "
        f"{written.base}` says it, and `--base IMAGE@sha256:...` of `toolkit deploy docker` writes it.\n"
        "- `constraints.txt`: every package in the version that was installed where this was written.\n"
        "- `bundle.sha256`: of the bundle's manifest, which holds the SHA-256 of every other file of it. "
        "`sha256sum --check bundle.sha256`.",
    )
    return "\n\n".join(parts) + "\n"


def _build(written: Written, image: str) -> str:
    build = f"```bash\ndocker build --tag {image} .\n```"
    if written.has_wheel:
        return f"{build}\n\nToolkit itself is installed from `{written.wheel}`."
    return (
        f"Toolkit itself is installed from `{printable(written.wheel)}`, which must lie beside the Dockerfile; without "
        "it the build ends at its `COPY`. From a clone of its repository, in this folder:\n\n"
        f"```bash\n{pip_wheel('PATH/TO/THE/CLONE')}\n```\n\nor, where {DISTRIBUTION} is in a package index of yours, "
        f"`pip download --no-deps {DISTRIBUTION}`. `--wheel FILE` of `toolkit deploy docker` puts it there.\n\n{build}"
    )
