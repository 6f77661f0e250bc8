#!/usr/bin/env bash
# Installs what is missing, builds, runs all tests. Closes with the line "N passed, N failed".
# usage: scripts/test.sh [release|debug|asan|tsan] [-- CTEST-ARGUMENTS]
#        scripts/test.sh fuzz   30 s of each fuzz target (scripts/fuzz.sh)
set -euo pipefail
cd "$(dirname "$0")/.."
preset=release
if [ $# -gt 0 ] && [ "$1" != -- ]; then preset=$1; shift; fi
if [ "${1:-}" = -- ]; then shift; fi
targets=(all)
if [ "$preset" = tsan ]; then targets=(glia_tests); fi  # of it, what shares data among threads (CMakeLists.txt)
if [ "$preset" = fuzz ]; then
  scripts/setup.sh clang libclang-rt-14-dev  # Debian's clang is 14; its sanitizers' and libFuzzer's runtime
  exec scripts/fuzz.sh 30
fi
scripts/setup.sh
scripts/build.sh "$preset" "${targets[@]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
ctest --test-dir "build/$preset" --output-on-failure --no-tests=error --parallel "$(nproc)" "$@" | tee "$log" || status=$?
counts=$(sed -n 's/^[0-9]*% tests passed, \([0-9]*\) tests failed out of \([0-9]*\)$/\1 \2/p' "$log" | tail -n 1)
if [ -z "$counts" ]; then echo "no tests were run"; exit 1; fi
failed=${counts% *}
total=${counts#* }
echo "$((total - failed)) passed, $failed failed"
exit "$status"
