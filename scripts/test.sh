#!/usr/bin/env bash
# Installs what is missing, builds, runs all tests. Closes with the line "N passed, N failed".
# usage: scripts/test.sh [release|debug|asan|tsan] [-- CTEST-ARGUMENTS]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=release
if [ $# -gt 0 ] && [ "$1" != -- ]; then preset=$1; shift; fi
if [ "${1:-}" = -- ]; then shift; fi
scripts/setup.sh
scripts/build.sh "$preset"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j "$(nproc)" "$@" | tee "$log" || status=$?
failed=$(sed -n 's/^[0-9]*% tests passed, \([0-9]*\) tests failed out of \([0-9]*\)$/\1/p' "$log")
total=$(sed -n 's/^[0-9]*% tests passed, \([0-9]*\) tests failed out of \([0-9]*\)$/\2/p' "$log")
if [ -z "$total" ]; then echo "no tests were run"; exit 1; fi
echo "$((total - failed)) passed, $failed failed"
exit "$status"
