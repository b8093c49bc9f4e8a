#!/bin/sh
# examples/ray/run.sh BUNDLE
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=$("$here/../shared/python.sh" "$here" "toolkit onnxruntime ray" "$root[cpu]")
PYTHONPATH="$here/../shared${PYTHONPATH:+:$PYTHONPATH}" exec "$python" "$here/run.py" "$1"
