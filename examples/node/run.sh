#!/bin/sh
# examples/node/run.sh BUNDLE
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v node >/dev/null || { echo "node is not installed: install Node.js 20 or later" >&2; exit 2; }
"$here/../shared/packages.sh" "$here"
ORT_DISABLE_TELEMETRY=1 exec node "$here/run.mjs" "$1"
