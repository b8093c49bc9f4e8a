#!/bin/sh
# examples/opencv/run.sh BUNDLE
# OPENCV=4.14.0.94 takes that release instead of the one that is installed, in an environment of its own.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${OPENCV:-}" ]; then
  folder=$here/.opencv-$OPENCV
  mkdir -p "$folder"
  printf 'opencv-python-headless==%s\nnumpy\n' "$OPENCV" >"$folder/requirements.txt"
  python=$("$here/../shared/python.sh" "$folder" "")
else
  python=$("$here/../shared/python.sh" "$here" "cv2 numpy")
fi
PYTHONPATH="$here/../shared${PYTHONPATH:+:$PYTHONPATH}" exec "$python" "$here/run.py" "$1"
