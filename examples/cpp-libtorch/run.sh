#!/usr/bin/env bash
# examples/cpp-libtorch/run.sh BUNDLE [FORMAT]
exec "$(dirname "$0")/../shared/cpp.sh" cpp-libtorch TORCH torch "$@"
