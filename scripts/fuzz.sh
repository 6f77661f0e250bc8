#!/usr/bin/env bash
# Builds the fuzz targets (tests/fuzz) and runs each: executions, executions per second, finds. Finds stay in build/fuzz/finds, what reached
# new code in build/fuzz/corpus; both are begun with by the next run. Closes with "N passed, N failed", targets with and without finds.
# usage: scripts/fuzz.sh [SECONDS-PER-TARGET [TARGET...]]   (60 s each; GLIA_FUZZ_JOBS at a time, 2 where it is not set)
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=60
if [ $# -gt 0 ]; then seconds=$1; shift; fi
if [ $# -gt 0 ]; then targets=("$@"); else targets=(zip pickle safetensors npy checkpoint hdf5 rle csv coco config); fi
scripts/build.sh fuzz "${targets[@]/#/fuzz_}"

seeds() {
  local data=tests/fixtures/data checkpoints=tests/fixtures/checkpoints
  case $1 in
    zip) ls $data/*.npz $data/*.zip $checkpoints/*zip.pth ;;
    pickle) ls $checkpoints/*.pkl $checkpoints/*legacy.pth $checkpoints/*.pt ;;
    safetensors | checkpoint) ls $data/*.safetensors $checkpoints/*.safetensors ;;
    npy) ls $data/*.npy $data/*.npz ;;
    hdf5) ls tests/fixtures/keras/*.h5 ;;
    csv) ls $data/*.csv ;;
    config) ls recipes/*.toml ;;
  esac
  find tests/fuzz/corpus tests/fixtures/hostile -name "$1-*" 2>/dev/null || true
}

fuzz() {
  local target=$1 corpus=build/fuzz/corpus/$1 finds=build/fuzz/finds/$1 log=build/fuzz/$1.log longest=8192 status=0 options=() list
  mkdir -p "$corpus" "$finds"
  list=$(seeds "$target" | paste -sd,)
  if [ -n "$list" ]; then options+=("-seed_inputs=$list"); fi
  if [ -f "tests/fuzz/$target.dict" ]; then options+=("-dict=tests/fuzz/$target.dict"); fi
  if [ "$target" = hdf5 ]; then longest=65536; fi  # the smallest files that Keras writes have 40 KB
  nice "build/fuzz/bin/fuzz_$target" "$corpus" "${options[@]}" -max_total_time="$seconds" -max_len=$longest -rss_limit_mb=512 -timeout=5 \
    -print_final_stats=1 -verbosity=1 -artifact_prefix="$finds/" >"$log" 2>&1 || status=$?
  stat() { sed -n "s/^stat::$1: *//p" "$log"; }
  if [ "$status" = 0 ]; then
    echo "$target: $(stat number_of_executed_units) executions, $(stat average_exec_per_sec) per second, no find, $(stat peak_rss_mb) MB at most"
  else
    echo "$target: a find after $(stat number_of_executed_units) executions, kept in $finds:"
    grep -m 3 -E 'ERROR:|runtime error:|SUMMARY:|terminate called|what\(\)' "$log" | sed 's/^/    /'
  fi
  return "$status"
}
export -f fuzz seeds
export seconds
results=$(mktemp)
trap 'rm -f "$results"' EXIT
printf '%s\n' "${targets[@]}" | xargs -P "${GLIA_FUZZ_JOBS:-2}" -I{} bash -c 'fuzz {} && echo ok {} >>"$0" || true' "$results"
passed=$(grep -c '^ok' "$results" || true)
echo "$passed passed, $((${#targets[@]} - passed)) failed"
[ "$passed" = "${#targets[@]}" ]
