#!/usr/bin/env bash
# Builds examples/NAME into build/examples/NAME, unless it is there as it should be, and runs it.
#
#     shared/cpp.sh NAME VARIABLE PLACE BUNDLE [FORMAT]
#
# The library is looked for where VARIABLE of the environment says, else in PLACE, a folder of a package of $PYTHON.
set -euo pipefail
examples=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=${examples%/*}
name=$1 variable=$2 place=$3
package=${place%%/*}
build=$root/build/examples/$name

refuse() {
  echo "$name cannot be built: $1" >&2
  exit 2
}

for tool in cmake "${CXX:-c++}"; do
  command -v "$tool" >/dev/null || refuse "$tool is not installed: install CMake and a C++ compiler"
done
library=${!variable:-}
if [ -z "$library" ]; then
  python=$root/.venv/bin/python
  [ -x "$python" ] || python=python3
  python=${PYTHON:-$python}
  where='import sys; from importlib.util import find_spec; found = find_spec(sys.argv[1])
print(found.submodule_search_locations[0] if found else "")'
  found=$("$python" -c "$where" "$package") || refuse "$python cannot be run: set PYTHON to one that has $package"
  [ -n "$found" ] || refuse "$python has no package $package: 'make setup' installs it, or set $variable"
  library=$found${place#"$package"}
fi
# A build folder that was moved with the repository is of no use to CMake.
grep -qsFx "CMAKE_HOME_DIRECTORY:INTERNAL=$examples/$name" "$build/CMakeCache.txt" || rm -rf "$build"
mkdir -p "$build"
if ! { cmake -S "$examples/$name" -B "$build" "-D$variable=$library" && cmake --build "$build"; } >"$build/log.txt" 2>&1
then
  cat "$build/log.txt" >&2
  refuse "what CMake says of it stands above, and in $build/log.txt"
fi
exec "$build/$name" "${@:4}"
