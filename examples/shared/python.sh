#!/bin/sh
# Prints the Python that an example runs with: $PYTHON where that has what the example imports, else the one of an
# environment in the example's folder, which is made from its requirements.txt the first time.
#
#     shared/python.sh FOLDER "MODULE ..." [REQUIREMENT ...]
#
# Without a module it is always that environment.
set -eu
folder=$1
modules=$2
shift 2
python=${PYTHON:-python3}
command -v "$python" >/dev/null || { echo "$python is not installed: install Python 3.11 or later" >&2; exit 2; }
has='import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))'
# shellcheck disable=SC2086  # several modules
if [ -n "$modules" ] && "$python" -c "$has" $modules; then
  echo "$python"
  exit
fi
own=$folder/.venv
if ! cmp -s "$folder/requirements.txt" "$own/installed.txt"; then
  echo "setting up $own ..." >&2
  "$python" -m venv "$own" >&2
  "$own/bin/python" -m pip install --quiet "$@" --requirement "$folder/requirements.txt" >&2 || exit 2
  cp "$folder/requirements.txt" "$own/installed.txt"
fi
echo "$own/bin/python"
