#!/bin/sh
# examples/python-service/run.sh BUNDLE
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=$("$here/../shared/python.sh" "$here" "toolkit onnxruntime fastapi uvicorn" "$root[cpu]")
PYTHONPATH="$here/../shared${PYTHONPATH:+:$PYTHONPATH}" exec "$python" "$here/run.py" "$1"
