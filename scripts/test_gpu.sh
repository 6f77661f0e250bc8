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

scripts/setup.sh && scripts/build.sh release glia glia_tests glia_bench glia_ladders || exit 1
bin=build/release/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
device=emulated
"$bin/glia" doctor >"$work/doctor"
if grep -q '^GPU .*cuda:0' "$work/doctor"; then device=cuda; fi
echo "test_gpu: device $device"
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

export GLIA_TUNE=off  # tests by fixed rules, benchmarks by what is fastest
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

unset GLIA_TUNE
check "every kernel timed on $device (glia_bench --device $device)" sh -c "$bin/glia_bench --device $device >$work/tables"
if [ $device = cuda ] && [ -z "$quick" ]; then
  python=$(for p in python3 "$PWD/.venv/bin/python"; do "$p" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null && echo "$p" && break; done)
  if [ -n "$python" ]; then
    "$python" bench/compare_pytorch.py --device cuda --glia "$bin/glia" --rounds 3 >"$work/pytorch" || failed=$((failed + 1))
  else
    row "steps against PyTorch" "not run: no PyTorch that sees the GPU (pip install torch)"
  fi
  "$bin/glia_ladders" --device cuda --repeat 20 >"$work/ladders" 2>&1 || failed=$((failed + 1))
  for precision in fp32 tf32 bf16; do
    for kernels in hand auto; do
      for mode in train infer; do
        printf '%s, %s, --kernels %s: ' "$mode" "$precision" "$kernels"
        "$bin/glia" bench step study/unet --mode $mode --size 256x256 --batch 16 --device cuda --kernels $kernels \
          --set run.precision=$precision --seconds 10 --quiet --json "$work/step.json" >/dev/null && cat "$work/step.json"
        echo
      done
    done
  done >"$work/steps" 2>&1
fi

{
  echo "## Results on $device"
  echo
  echo "\`scripts/test_gpu.sh\` at $(git rev-parse --short HEAD 2>/dev/null || echo 'an unknown commit')."
  echo
  echo "| check | result |"
  echo "|---|---|"
  cat "$work/rows"
  for part in tables pytorch; do  # Markdown already
    if [ $device = cuda ] && [ -s "$work/$part" ]; then echo; cat "$work/$part"; fi
  done
  for part in doctor ladders steps; do
    if [ -s "$work/$part" ]; then printf '\n```\n'; cat "$work/$part"; printf '```\n'; fi
  done
} >"$out"
cat "$out"
[ "$failed" = 0 ]
