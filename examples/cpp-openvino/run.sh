#!/usr/bin/env bash
# examples/cpp-openvino/run.sh BUNDLE [FORMAT]
exec "$(dirname "$0")/../shared/cpp.sh" cpp-openvino OpenVINO_DIR openvino/cmake "$@"
