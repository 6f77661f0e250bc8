#!/usr/bin/env bash
# The study's other systems through the real program, as small as they go: UNet++, Cascade and Mask Scoring R-CNN, Cellpose, losses by shape, and their
# comparison.
. "$(dirname "$0")/lib.sh"
"$GLIA" synth --out cells --images 6 --size 96x128 --style fluorescence --seed 3 --quiet || exit 1
UNET=(--set model.base_channels=4 --set data.image_size=32 --set model.tile=64 --set model.overlap=16 --set solver.max_iterations=4
  --set eval.every=4 --set eval.max_images=1 --set eval.pictures=1)
MASKS=(--set backbone.stem_channels=8 --set backbone.res2_channels=16 --set backbone.width_per_group=8 --set backbone.fpn_channels=16
  --set roi_heads.box_fc_dim=32 --set roi_heads.mask_conv_dim=8 --set input.crop=64 --set solver.max_iterations=5 --set eval.every=5
  --set eval.max_images=1 --set eval.pictures=1 --set roi_heads.score_thresh_test=0 --set eval.score_threshold=0)

# goes_on NAME RECIPE SETTINGS...: three steps with one thread, then three with two and two workers, end in the bits of six at once.
goes_on() {
  local name=$1
  shift
  local words=(train "$@" --data cells --set solver.schedule=constant --set eval.every=6 --quiet)
  expect 0 "" "$GLIA" "${words[@]}" --out "$name-whole" --set solver.max_iterations=6 --threads 2 --set data.workers=1
  expect 0 "" "$GLIA" "${words[@]}" --out "$name-parts" --set solver.max_iterations=3 --threads 1 --set data.workers=0
  cp "$name-parts/checkpoints/last.safetensors" half.safetensors
  expect 0 "" "$GLIA" "${words[@]}" --out "$name-parts" --set solver.max_iterations=6 --threads 2 --set data.workers=2 --resume auto
  expect 0 "" "$GLIA" inspect "$name-whole/checkpoints/last.safetensors" "$name-parts/checkpoints/last.safetensors"
  expect 1 "" "$GLIA" inspect "$name-whole/checkpoints/last.safetensors" half.safetensors
}

# UNet++: both forms, both targets, going on, pruned prediction
expect 0 "" "$GLIA" train unet_plus_plus --data cells --out nested "${UNET[@]}"
expect 0 "" "$GLIA" train unet_plus_plus --data cells --out nested "${UNET[@]}" --resume auto --set solver.max_iterations=6
holds "$(number nested/metrics.jsonl loss_cross_entropy) > 0"
expect 0 "" "$GLIA" train unet_plus_plus --data cells --out binary "${UNET[@]}" --set model.upsample=transposed --set model.target=binary \
  --set 'loss.terms={bce=0.5,dice=1.0}' --set loss.per=sample --set loss.smooth=1e-5
holds "$(number binary/metrics.jsonl loss_dice) > 0"
for run in nested binary; do
  for prune in 0 1 4; do
    expect 0 "" "$GLIA" predict $run/checkpoints/best.safetensors --images cells --out found_$run$prune --set model.prune=$prune --write labels,coco
    expect 0 "map_iou" "$GLIA" evaluate --truth cells --pred found_$run$prune
  done
done
# Each column alone: what bench columns says is what predict and evaluate find. On a network that finds cells.
expect 0 "" "$GLIA" train unet_plus_plus --data cells --out seeing "${UNET[@]}" --set model.target=binary --set 'loss.terms={bce=1}' --set solver.lr=0.03 \
  --set model.threshold=0.4 --set solver.max_iterations=200 --set eval.every=200
expect 0 "the mean of all heads" "$GLIA" bench columns seeing/checkpoints/best.safetensors --data cells --json columns.json
for prune in 0 1 4; do
  expect 0 "" "$GLIA" predict seeing/checkpoints/best.safetensors --images cells --out seen$prune --set model.prune=$prune --write coco
  expect 0 "" "$GLIA" evaluate --truth cells --pred seen$prune --json scores.json
  grep "\"prune\": $prune," columns.json >column.json
  for metric in map_iou f1_at_50; do
    holds "$(number column.json $metric) > 0.2"
    holds "($(number column.json $metric) - $(number scores.json $metric)) ^ 2 < 1e-10"
  done
done
holds "$(number columns.json gflop_per_image) < 0.3 * $(number column.json gflop_per_image)"
expect 2 "--data is required" "$GLIA" bench columns seeing/checkpoints/best.safetensors
expect 2 "only glia bench columns reads a data set" "$GLIA" bench step unet --data cells
goes_on going-nested unet_plus_plus "${UNET[@]}"
goes_on going-transposed unet_plus_plus "${UNET[@]}" --set model.upsample=transposed --set model.dropout=true
expect 2 "at most the number of columns" "$GLIA" predict nested/checkpoints/best.safetensors --images cells --out p --set model.prune=5
expect 2 "only unet_plus_plus can be pruned" "$GLIA" train unet_border --data cells --out p --set model.prune=1
expect 0 "conv0_4.conv1.weight" "$GLIA" inspect nested/checkpoints/best.safetensors
for prune in 1 4; do
  expect 0 "" "$GLIA" bench step unet_plus_plus --set model.base_channels=4 --set model.prune=$prune --mode infer --size 64x64 --batch 1 --seconds 0.1 \
    --json bench$prune.json
done
holds "$(number bench1.json gflop) < 0.5 * $(number bench4.json gflop)"

# Cascade and Mask Scoring R-CNN
for recipe in cascade_cells mask_scoring_cells; do
  expect 0 "" "$GLIA" train $recipe --data cells --out $recipe "${MASKS[@]}"
  expect 0 "" "$GLIA" train $recipe --data cells --out $recipe "${MASKS[@]}" --resume auto --set solver.max_iterations=6
  expect 0 "" "$GLIA" predict $recipe/checkpoints/last.safetensors --images cells --out found_$recipe --set eval.flip=true --write labels,coco,submission
  expect 0 "ap50" "$GLIA" evaluate --truth cells --pred found_$recipe
  goes_on going-$recipe $recipe "${MASKS[@]}"
done
expect 2 "only unet_plus_plus has columns" "$GLIA" bench columns cascade_cells/checkpoints/last.safetensors --data cells
for loss in loss_cls_stage0 loss_box_reg_stage1 loss_cls_stage2 loss_mask; do holds "$(number cascade_cells/metrics.jsonl $loss) > 0"; done
holds "$(number mask_scoring_cells/metrics.jsonl loss_maskiou) >= 0"
expect 0 "roi_heads.box_head.2.fc1.weight" "$GLIA" inspect cascade_cells/checkpoints/last.safetensors
expect 0 "roi_heads.maskiou_head.maskiou_fcn4.weight" "$GLIA" inspect mask_scoring_cells/checkpoints/last.safetensors
expect 0 "post_nms_topk_train = 2000" "$GLIA" train cascade_mask_rcnn_r50_fpn --print-config
expect 0 "mask_scoring = true" "$GLIA" train mask_scoring_rcnn_r50_fpn --print-config
expect 2 "cls_agnostic_bbox_reg" "$GLIA" train cascade_cells --data cells --out p --set roi_heads.cls_agnostic_bbox_reg=false
expect 2 "\"loss_maskiou\" is no loss" "$GLIA" train mask_rcnn_cells --data cells --out p --set 'loss.terms={loss_maskiou=1}'

# Cellpose
CELLPOSE=(--set cellpose.base_channels=4 --set cellpose.crop=64 --set cellpose.min_train_masks=2 --set solver.batch_size=2
  --set solver.max_iterations=4 --set eval.every=4 --set eval.pictures=1)
expect 0 "fewer than 2 cells are left out" "$GLIA" train cellpose --data cells --out arrows "${CELLPOSE[@]}"
goes_on going-cellpose cellpose "${CELLPOSE[@]}"
expect 0 "" "$GLIA" train cellpose --data cells --out arrows "${CELLPOSE[@]}" --resume auto --set solver.max_iterations=6
expect 1 "" "$GLIA" inspect arrows/checkpoints/last.safetensors arrows/checkpoints/step-000004.safetensors
expect 0 "downsample.down.res_down_3.conv.conv_3.2.weight" "$GLIA" inspect arrows/checkpoints/last.safetensors
holds "$(number arrows/metrics.jsonl loss_flow) > 0"
for options in cellpose.niter=20 cellpose.augment=true cellpose.resample=false cellpose.diameter=40 cellpose.cellprob_threshold=-9; do
  expect 0 "" "$GLIA" predict arrows/checkpoints/last.safetensors --images cells --out found_arrows --set $options --set cellpose.tile=64 \
    --write labels,coco,seg
  expect 0 "map_iou" "$GLIA" evaluate --truth cells --pred found_arrows
done
expect 2 ".png: cellpose.diameter = 500: larger than the image" "$GLIA" predict arrows/checkpoints/last.safetensors --images cells --out found_none \
  --set cellpose.diameter=500
expect 2 "it is a setting: --set cellpose.diameter=VALUE" "$GLIA" predict arrows/checkpoints/last.safetensors --images cells --out p --diameter 30
expect 0 "" "$GLIA" predict arrows/checkpoints/last.safetensors --images cells --out found_emulated --device emulated --set cellpose.niter=5 \
  --set cellpose.tile=64 --write labels
expect 0 "windows of" "$GLIA" size-model arrows/checkpoints/last.safetensors --data cells --epochs 2 --out sized.safetensors
expect 0 "" "$GLIA" predict sized.safetensors --images cells --out found_sized --set cellpose.diameter=auto --set cellpose.tile=64 --write labels,seg
expect 0 "est_diam" "$GLIA" inspect "$(ls found_sized/seg/*_seg.npy | head -1)"
expect 0 "" "$GLIA" size-model sized.safetensors --out size_cells.npy
expect 0 "" "$GLIA" size-model arrows/checkpoints/last.safetensors --from size_cells.npy --out taken.safetensors
expect 0 "" "$GLIA" inspect sized.safetensors taken.safetensors
expect 3 "no size model in it" "$GLIA" size-model arrows/checkpoints/last.safetensors --out p.npy
expect 3 "no size model in it" "$GLIA" predict arrows/checkpoints/last.safetensors --images cells --out p --set cellpose.diameter=auto
expect 2 "want \"auto\" or a number" "$GLIA" predict sized.safetensors --images cells --out p --set cellpose.diameter=large
expect 2 "a setting of prediction" "$GLIA" train cellpose --data cells --out p --set cellpose.diameter=auto
expect 2 "only cellpose has a size model" "$GLIA" size-model nested/checkpoints/best.safetensors --data cells --out p.safetensors
expect 2 "give one of them" "$GLIA" size-model sized.safetensors --data cells --from size_cells.npy --out p.safetensors
expect 2 "multiples of 8" "$GLIA" train cellpose --data cells --out p --set cellpose.crop=100
expect 2 "by a rule of its own" "$GLIA" train cellpose --data cells --out p --set augment.hflip=true
expect 2 "no loss of cellpose" "$GLIA" train cellpose --data cells --out p --set 'loss.terms={bce=1}'
expect 3 "lower the setting" "$GLIA" train cellpose --data cells --out few "${CELLPOSE[@]}" --set cellpose.min_train_masks=99
expect 0 "" "$GLIA" bench step cellpose "${CELLPOSE[@]:0:2}" --mode train --size 64x64 --batch 2 --seconds 0.1
expect 0 "" "$GLIA" bench step cellpose "${CELLPOSE[@]:0:2}" --mode infer --size 64x64 --batch 2 --seconds 0.1

# losses weighted by shape
SHAPE=(--set 'loss.weights={border=10,contour=1,curvature=2}')
expect 0 "" "$GLIA" train unet_border --data cells --out weighted "${UNET[@]}" "${SHAPE[@]}" --set loss.weight_normalize=true
expect 0 "" "$GLIA" train unet --data cells --out weighted_unet "${UNET[@]}" "${SHAPE[@]}" --set loss.weight_balance=true
expect 0 "" "$GLIA" train mask_rcnn_cells --data cells --out weighted_masks "${MASKS[@]}" "${SHAPE[@]}"
goes_on going-weighted unet_border "${UNET[@]}" "${SHAPE[@]}"
goes_on going-weighted-masks mask_rcnn_cells "${MASKS[@]}" "${SHAPE[@]}"
expect 2 "no weight of pixels" "$GLIA" train unet_border --data cells --out p --set 'loss.weights={edges=2}'
expect 2 "takes weights of pixels" "$GLIA" train unet --data cells --out p --set 'loss.terms={dice=1}' "${SHAPE[@]}"
absent p

# pixels of cells, but no seeds: said once, with what to do, by everything that predicts
BLIND=(--set model.seed_threshold=0.999 --set model.threshold=0.01)
expect 0 "--set model.seed_threshold=0.4995" "$GLIA" train unet_border --data cells --out blind "${UNET[@]}" --set solver.lr=0.01 --set solver.max_iterations=40 \
  --set eval.every=10 "${BLIND[@]}" --quiet
if [ "$(grep -c seed_threshold out.txt)" = 1 ]; then pass; else fail "a training does not say once that there are no seeds"; fi
expect 0 "no cell in any of 6 images" "$GLIA" predict blind/checkpoints/last.safetensors --images cells --out found_blind --quiet
if [ "$(grep -c seed_threshold out.txt)" = 1 ]; then pass; else fail "a prediction does not say once that there are no seeds"; fi
expect 0 "" "$GLIA" predict blind/checkpoints/last.safetensors --images cells --out found_sighted --set model.seed_threshold=0.1 --set model.seed_size=1
if grep -q "no cell in any" out.txt; then fail "cells were found, and it says that there are none"; else pass; fi
expect 0 "" "$GLIA" predict blind/checkpoints/last.safetensors --images cells --out found_dark --set model.threshold=1
if grep -q "no cell in any" out.txt; then fail "it says that there are pixels of cells where there are none"; else pass; fi

# the comparison
printf 'base = "unet_border"\n[model]\nbase_channels = 4\ndepth = 2\n[data]\nimage_size = 32\n[solver]\nmax_iterations = 6\n' >quick.toml
printf 'base = "unet_border"\n[model]\nbase_channels = 4\ndepth = 2\n[data]\nimage_size = 32\n[solver]\nmax_iterations = 1_000_000\n' >slow.toml
printf 'base = "quick.toml"\n[solver]\noptimizer = "sgd"\nlr = 1e6\nclip_norm = 0\nwarmup_iterations = 0\n' >wild.toml
compare() { "$GLIA" compare --data cells --budget 6s --out compared "$@"; }
expect 2 "want a time with s, m or h" "$GLIA" compare --data cells --recipes quick.toml --budget 30 --out compared
expect 2 "did you mean unet_border" compare --recipes unet_bordr
expect 2 "is there twice" compare --recipes quick.toml,unet_border,quick.toml
expect 2 "want names" compare --recipes quick.toml,
expect 2 "solver.lr" compare --recipes quick.toml --set solver.lr=0
expect 3 "no such file or folder" "$GLIA" compare --data nowhere --recipes quick.toml --out compared
absent compared
before=$(hash_of cells)
"$GLIA" compare --data cells --budget 6s --out compared --recipes quick.toml,slow.toml >out.txt 2>&1 &
pid=$!
for _ in $(seq 300); do
  [ -s compared/slow/run/metrics.jsonl ] && break
  sleep 0.1
done
kill -INT "$pid"
code=0
wait "$pid" || code=$?
if [ "$code" = 130 ]; then pass; else fail "an interrupted comparison ended with $code instead of 130"; fi
grep -q '^| `quick` | 0' compared/compare.md && pass || fail "compare.md lacks what was finished"
if grep -q slow compared/compare.md; then fail "compare.md has what was not finished"; else pass; fi
expect 0 "quick: done before" compare --recipes quick.toml,slow.toml
file compared/compare.md compared/compare.csv compared/worst.png compared/slow/run/config.toml compared/slow/found/predictions.json
grep -q '^| `slow` | ' compared/compare.md && pass || fail "compare.md lacks the second recipe"
if [ "$(wc -l <compared/compare.csv)" = 3 ]; then pass; else fail "compare.csv has $(wc -l <compared/compare.csv) lines, want 3"; fi
holds "$(number compared/slow/figures.json tensors_mb) > 0"
grep -q '^- map_iou: ' compared/compare.md && pass || fail "compare.md does not say what its columns are"
holds "$(number compared/slow/figures.json train_seconds) < 60"  # a million steps take hours
if cmp -s compared/quick/run/annotation_val.json compared/slow/run/annotation_val.json; then pass; else fail "the recipes had other splits"; fi
printf 'base = "quick.toml"\n[model]\nseed_threshold = 0.999\nthreshold = 0.01\n' >blind.toml
expect 0 "blind: no cell in any" compare --recipes quick.toml,blind.toml
expect 5 "failed with exit code 5" compare --recipes quick.toml,wild.toml
grep -q '^| `wild` | timing a few steps failed with exit code 5: ' compared/compare.md && pass || fail "compare.md does not say why a recipe failed"
printf 'base = "slow.toml"\n[model]\nbase_channels = 64\n[data]\nimage_size = 96\n[solver]\nbatch_size = 64\n' >heavy.toml
expect 2 "it wants a larger --budget" "$GLIA" compare --data cells --budget 1s --out late --recipes heavy.toml
grep -q '^cells, 1 s of training each' late/compare.md && pass || fail "compare.md of nothing"
# A training that is held up until the budget is over: what it ended with is evaluated.
"$GLIA" compare --data cells --budget 4s --out held --recipes slow.toml >out.txt 2>&1 &
pid=$!
for _ in $(seq 300); do
  [ -s held/slow/run/metrics.jsonl ] && break
  sleep 0.1
done
read -r training <"/proc/$pid/task/$pid/children"
kill -STOP "$training"
sleep 5
kill -CONT "$training"
code=0
wait "$pid" || code=$?
if [ "$code" = 0 ]; then pass; else fail "a comparison whose training was stopped ended with $code"; fi
holds "$(number held/slow/figures.json steps) < $(number held/slow/figures.json planned_steps)"
holds "$(number held/slow/figures.json steps) == $(tail -n 1 held/slow/run/results.csv | cut -d, -f1)"
sed -i 's/max_iterations = 6/max_iterations = 7/' quick.toml
expect 0 "| \`quick\` | " compare --recipes quick.toml
if grep -q 'done before' out.txt; then fail "a recipe that changed was not trained again"; else pass; fi
grep -q '"steps":7' compared/quick/figures.json && pass || fail "the recipe's new number of steps was not taken"
expect 2 "holds another comparison" "$GLIA" compare --data cells --recipes quick.toml --budget 7s --out compared
mkdir mine && touch mine/notes
expect 2 "holds no comparison" "$GLIA" compare --data cells --recipes quick.toml --out mine
expect 2 "name another folder" "$GLIA" compare --data cells --recipes quick.toml --out cells
if [ "$before" = "$(hash_of cells)" ]; then pass; else fail "the input folder was changed"; fi
finish
