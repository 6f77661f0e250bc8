#!/usr/bin/env bash
# Programs that are killed at any moment: a training loses no checkpoint and goes on to the same end (R21), predictions are whole
# or absent (R26). And a checkpoint that an older version wrote still opens.
. "$(dirname "$0")/lib.sh"
: "${GLIA_SOURCE:?set GLIA_SOURCE to the source folder}"
KILLS=${GLIA_KILLS:-100} # 1000 before a release
TINY=(--set model.base_channels=2 --set model.depth=1 --set data.image_size=32)
"$GLIA" synth --out cells --images 3 --size 64x64 --style fluorescence --seed 4 --quiet || exit 1

# seconds COMMAND...: how long it takes.
seconds() {
  local start=$EPOCHREALTIME
  "$@" >out.txt 2>&1 </dev/null || fail "$*"
  awk "BEGIN { print $EPOCHREALTIME - $start }"
}
# killed LOW HIGH COMMAND...: ends the command with SIGKILL after a random time between the two.
killed() {
  local wait pid
  wait=$(awk "BEGIN { print $1 + ($2 - $1) * $RANDOM / 32767 }")
  shift 2
  "$@" >out.txt 2>&1 </dev/null &
  pid=$!
  sleep "$wait"
  kill -KILL "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
}

# a training that saves after every step
TRAIN=("$GLIA" train unet --data cells --set model.base_channels=24 --set model.depth=2 --set data.image_size=16 --set solver.max_epochs=0 --set eval.every=1000000 --set eval.pictures=0
  --set solver.ema=0.9 --set run.tensorboard=false --quiet)
SAVING=(--set checkpoint.every=1 --set checkpoint.keep=2)
newest() { find run/checkpoints -name 'step-*.safetensors' 2>/dev/null | sort | tail -1 | tr -dc 0-9; }
once=$(seconds "${TRAIN[@]}" --out once "${SAVING[@]}" --set solver.max_iterations=1)
lost=0
before=0
for _ in $(seq "$KILLS"); do
  killed "$(awk "BEGIN { print .6 * $once }")" "$(awk "BEGIN { print 1.2 * $once }")" \
    "${TRAIN[@]}" --out run "${SAVING[@]}" --set solver.max_iterations=1000000 --resume auto
  after=$(newest)
  after=$((10#${after:-0}))
  [ "$after" -ge "$before" ] || lost=$((lost + 1))
  before=$after
done
if [ "$lost" = 0 ]; then pass; else fail "$lost of $KILLS kills lost a checkpoint"; fi
holds "$before > $KILLS / 10" # the training got somewhere between the kills
end=$((before + 3))
expect 0 "" "${TRAIN[@]}" --out run "${SAVING[@]}" --set solver.max_iterations=$end --resume auto
expect 0 "" "${TRAIN[@]}" --out whole --set checkpoint.every=1000000 --set solver.max_iterations=$end
expect 0 "" "$GLIA" inspect run/checkpoints/last.safetensors whole/checkpoints/last.safetensors
if grep -q "skipped: " run/train.log; then fail "a checkpoint was broken: $(grep "skipped: " run/train.log | head -1)"; else pass; fi
if [ -z "$(find run -name '.*.tmp-*')" ]; then pass; else fail "temporary files were left: $(find run -name '.*.tmp-*')"; fi
if [ "$(wc -l <run/metrics.jsonl)" = "$end" ]; then pass; else fail "metrics.jsonl: $(wc -l <run/metrics.jsonl) lines, want $end"; fi

# predictions: every file that is there is that of a prediction that was not killed
"$GLIA" synth --out more --images 12 --size 96x96 --style fluorescence --seed 5 --quiet || exit 1
PREDICT=("$GLIA" predict whole/checkpoints/last.safetensors --images more --write labels,overlay,coco,cells,submission,rois,geojson --quiet)
whole=$(seconds "${PREDICT[@]}" --out found)
different=0
for _ in $(seq "$KILLS"); do
  rm -rf part
  killed 0 "$whole" "${PREDICT[@]}" --out part
  while read -r path; do
    cmp -s "part/$path" "found/$path" || different=$((different + 1))
  done < <(cd part 2>/dev/null && find . -type f ! -name '.*.tmp-*')
done
if [ "$different" = 0 ]; then pass; else fail "$different files of killed predictions are not whole"; fi
mkdir -p part/labels && touch part/.cells.csv.tmp-999999999 part/labels/.a.png.tmp-999999999
expect 0 "" "${PREDICT[@]}" --out part
expect 0 "" diff -r found part # what the killed one left is gone

# format 1 of checkpoints
old=$GLIA_SOURCE/tests/fixtures/checkpoint_1.safetensors
expect 0 "" "$GLIA" predict "$old" --images cells --out old_found --write labels
expect 0 "going on from $old, step 4" "$GLIA" train unet --data cells "${TINY[@]}" --set solver.ema=0.9 --set solver.max_iterations=6 \
  --out older --resume "$old"
finish
