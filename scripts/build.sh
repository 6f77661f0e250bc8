#!/usr/bin/env bash
# Programs land in build/PRESET/bin; build/bin points to the release build's.
# usage: scripts/build.sh [release|cuda|debug|asan|tsan|fuzz] [TARGET...]   (without one: glia, glia_tests and glia_bench)
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
if [ $# -gt 0 ]; then shift; fi
if [ $# -eq 0 ]; then set -- glia glia_tests glia_bench; fi
launcher=()
if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
cmake --preset "$preset" "${launcher[@]}" >"build-$preset.log" 2>&1 || { cat "build-$preset.log"; exit 1; }
rm -f "build-$preset.log"
cmake --build "build/$preset" --parallel "$(nproc)" --target "$@"
if [ "$preset" = release ]; then ln -sfn release/bin build/bin; fi
