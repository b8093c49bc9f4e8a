#!/bin/sh
# Installs what a folder's package-lock.json pins into its node_modules, unless that is there already.
#
#     shared/packages.sh FOLDER
#
# No script of a package is run: that of onnxruntime-node would fetch a build for CUDA from elsewhere.
set -eu
cd "$1"
command -v npm >/dev/null || { echo "npm is not installed: install Node.js 20 or later" >&2; exit 2; }
if ! cmp -s package-lock.json node_modules/.installed; then
  echo "installing the packages of $1 ..." >&2
  npm ci --ignore-scripts --prefer-offline --no-audit --no-fund --loglevel=error >&2 || exit 2
  cp package-lock.json node_modules/.installed
fi
