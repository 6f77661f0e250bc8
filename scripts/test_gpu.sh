#!/usr/bin/env bash
# All that needs a GPU, on a machine that has one: the tests of devices against emulator and reference, NVIDIA's sanitizers, a
# training, and the benchmarks. Writes one Markdown page of results, for docs/benchmarks.md. Without a GPU it goes as far as it can
# with the emulator, and says so.
# usage: scripts/test_gpu.sh [--out FILE] [--quick]
set -uo pipefail
cd "$(dirname "$0")/.."
out=gpu_results.md
quick=
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift 2 ;;
    --quick) quick=yes; shift ;;
    *) echo "usage: scripts/test_gpu.sh [--out FILE] [--quick]"; exit 2 ;;
  esac
done

preset=cuda
command -v nvcc >/dev/null || preset=release
scripts/setup.sh && scripts/build.sh "$preset" || exit 1
bin=build/$preset/bin
device=cuda
"$bin/glia" doctor | tee doctor.txt | grep -i 'gpu' || true
if ! grep -q 'GPU 0' doctor.txt; then device=emulated; fi
echo "test_gpu: device $device"

work=$(mktemp -d)
trap 'rm -rf "$work" doctor.txt' EXIT
failed=0
row() { printf '| %s | %s |\n' "$1" "$2" >>"$work/rows"; }
# check TITLE COMMAND...: one row; its output is shown where it fails.
check() {
  local title=$1 started=$SECONDS
  shift
  if "$@" >"$work/log" 2>&1; then
    row "$title" "passed, $((SECONDS - started)) s"
  else
    row "$title" "FAILED"
    failed=$((failed + 1))
    tail -n 40 "$work/log"
  fi
}

check "wrappers of the vocabulary: device against emulator (conformance)" "$bin/glia_tests" --test-suite=gpu
check "every op on every device against the double reference" "$bin/glia_tests" --test-suite=device
if [ $device = cuda ] && command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    check "compute-sanitizer $tool" env GLIA_CASES="${GLIA_CASES:-conv2d|batch_norm|softmax|topk|sum|linear|max_pool2d|bce_with_logits}" \
      compute-sanitizer --tool "$tool" --error-exitcode 9 "$bin/glia_tests" --test-suite=device --test-case='every device*'
  done
else
  row "compute-sanitizer" "not run: it needs a GPU"
fi

"$bin/glia" synth --out "$work/cells" --images 6 --size 64x64 >/dev/null
small=(--set model.base_channels=4 --set data.image_size=32 --set solver.max_iterations=3 --set run.log_every=1)
check "three steps of a small UNet on $device" "$bin/glia" train unet --data "$work/cells" --out "$work/run" "${small[@]}" --device $device
check "the same steps on the CPU" "$bin/glia" train unet --data "$work/cells" --out "$work/cpu" "${small[@]}" --device cpu

if [ $device = cuda ] && [ -z "$quick" ]; then
  "$bin/glia_bench" --benchmark_filter='^device/' --benchmark_counters_tabular=true >"$work/bench" 2>&1 || failed=$((failed + 1))
  python3 -c 'import torch' 2>/dev/null && python3 bench/compare_pytorch.py --device cuda --glia "$bin/glia" >"$work/torch" 2>&1
fi

{
  echo "## Results on $device"
  echo
  echo "\`scripts/test_gpu.sh\` at $(git rev-parse --short HEAD 2>/dev/null || echo 'an unknown commit')."
  echo
  echo "| check | result |"
  echo "|---|---|"
  cat "$work/rows"
  for part in torch bench; do
    if [ -s "$work/$part" ]; then printf '\n```\n'; cat "$work/$part"; printf '```\n'; fi
  done
} >"$out"
cat "$out"
[ "$failed" = 0 ]
