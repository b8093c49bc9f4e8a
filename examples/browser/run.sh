#!/bin/sh
# examples/browser/run.sh BUNDLE [--serve]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
"$here/../shared/packages.sh" "$here"
python=$("$here/../shared/python.sh" "$here" playwright)
exec "$python" "$here/run.py" "$@"
