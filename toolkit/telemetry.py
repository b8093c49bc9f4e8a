"""The engines' telemetry is switched off before they are imported: nothing contacts the network unasked."""

from __future__ import annotations

import os
import sys

OPT_OUT = {
    # Since 1.29 its Linux and macOS builds report to Microsoft, keep a device identifier and a database in the user's
    # cache folder, and run a thread that aborts a forked process at its end. Read once, while it is imported:
    # https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
    "ORT_DISABLE_TELEMETRY": "1",
    # https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # https://mlflow.org/docs/latest/community/usage-tracking
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Variables of the environment by which packages are told; one that the user has set stays as it is."""
WITHHELD = "openvino_telemetry"
"""OpenVINO reports each import to Google Analytics and writes a client identifier into the user's home, unless it finds
a file there that says no. It does without this package where it cannot be imported."""


def opt_out() -> None:
    """Switch telemetry off in this process and those it starts; called before an engine is imported.

    What was imported before, by somebody else, has reported already and is left as it is.
    """
    for name, value in OPT_OUT.items():
        os.environ.setdefault(name, value)
    sys.modules.setdefault(WITHHELD, None)  # type: ignore[arg-type]  # the import system's own word for "not there"
