#!/usr/bin/env bash
# A new user's way: synthetic data, check, split, train, predict, evaluate, look, convert. Through the real program.
. "$(dirname "$0")/lib.sh"
SMALL=(--set model.base_channels=8 --set model.depth=3 --set data.image_size=64 --set solver.max_iterations=30 --set eval.every=10)

expect 0 "6 images" "$GLIA" synth --out cells --images 6 --size 96x128 --style fluorescence --seed 3
file cells/train.csv
before=$(hash_of cells)
expect 0 "6 images" "$GLIA" check-data cells
expect 0 "" "$GLIA" split cells --out parts --val 0.33 --seed 1
file parts/annotation_all.json parts/annotation_train.json parts/annotation_val.json

expect 0 "" "$GLIA" train unet --data cells --out run "${SMALL[@]}"
file run/config.toml run/metrics.jsonl run/results.csv run/train.log run/annotation_train.json run/annotation_val.json \
  run/checkpoints/last.safetensors run/checkpoints/best.safetensors
if ls run/events.out.tfevents* >/dev/null 2>&1; then pass; else fail "no TensorBoard events"; fi
if [ "$(wc -l <run/metrics.jsonl)" = 30 ]; then pass; else fail "metrics.jsonl has $(wc -l <run/metrics.jsonl) lines, want 30"; fi
if ls run/pictures/*.png >/dev/null 2>&1; then pass; else fail "no pictures"; fi

expect 2 "--overwrite" "$GLIA" train unet --data cells --out run "${SMALL[@]}"
expect 2 "solver.lr" "$GLIA" train unet --data cells --out run "${SMALL[@]}" --resume auto --set solver.lr=0.5
expect 0 "" "$GLIA" train unet --data cells --out run "${SMALL[@]}" --resume auto --set solver.max_iterations=36
if [ "$(wc -l <run/metrics.jsonl)" = 36 ]; then pass; else fail "after resuming metrics.jsonl has $(wc -l <run/metrics.jsonl) lines"; fi

expect 0 "" "$GLIA" predict run/checkpoints/best.safetensors --images cells --out found \
  --write labels,overlay,coco,submission,cells,rois,geojson,seg
expect 2 "name another folder" "$GLIA" predict run/checkpoints/best.safetensors --images cells --out cells
file found/submission.csv found/predictions.json found/cells.csv
expect 0 "map_iou" "$GLIA" evaluate --truth cells --pred found --json scores.json
file scores.json
expect 0 "map_iou" "$GLIA" evaluate --truth cells --pred found/submission.csv --json again.json
holds "$(number scores.json map_iou) == $(number again.json map_iou)"
expect 0 "map_iou" "$GLIA" evaluate --truth cells --pred found/predictions.json
expect 0 "" "$GLIA" evaluate --truth cells --pred cells/labels --json perfect.json
holds "$(grep '"map_iou":' perfect.json | sed 's/.*: //; s/,//' | sort -g | head -1) > 0.9" # of every class and image, too
grep -q '"category_name":"cell"' found/predictions.json && pass || fail "no category names in predictions.json"
expect 0 "" "$GLIA" show cells --out looked
expect 0 "" "$GLIA" show found --images cells --out looked2
if ls looked/*.png looked2/*.png >/dev/null 2>&1; then pass; else fail "show wrote no pictures"; fi
cp -r run other
expect 0 "val_map_iou" "$GLIA" show run/ other --out charts
file charts/val_map_iou.png charts/loss.svg
grep -q '>run<' charts/loss.svg && grep -q '>other<' charts/loss.svg && pass || fail "the chart's legend does not name both runs"
expect 2 "2 paths" "$GLIA" show cells run --out charts2
echo "step" >other/results.csv
expect 3 "no losses or metrics" "$GLIA" show other --out charts2

expect 0 "" "$GLIA" convert cells cells.json
expect 0 "6 images" "$GLIA" check-data cells.json --images cells/train
expect 0 "" "$GLIA" convert cells as_labels --to labels
expect 0 "" "$GLIA" evaluate --truth cells --pred cells.json
expect 0 "6 images" "$GLIA" convert cells merged.json --from labels
grep -q '"name":"cell"' merged.json && pass || fail "convert --from labels read the classes of train.csv"
mkdir mixed && cp looked/mosaic.png "cells/train/$(ls cells/train | head -1)" mixed
expect 0 "warning: mixed/" "$GLIA" predict run/checkpoints/best.safetensors --images mixed --out found_mixed
expect 0 "conv2d.weight" "$GLIA" inspect run/checkpoints/best.safetensors
expect 0 "0 of" "$GLIA" inspect run/checkpoints/best.safetensors run/checkpoints/best.safetensors
expect 1 "differs by" "$GLIA" inspect run/checkpoints/last.safetensors "$(ls run/checkpoints/step-*.safetensors | head -1)"
image=cells/train/$(ls cells/train | head -1)
expect 0 "0 of 1" "$GLIA" inspect "$image" "$image"
expect 0 "most live memory" "$GLIA" train unet --data cells --explain "${SMALL[@]}"
expect 0 "roi_heads.mask_head.mask_fcn1" "$GLIA" train mask_rcnn_cells --data cells --explain --set input.crop=64 --set backbone.fpn_channels=16 \
  --set backbone.stem_channels=8 --set backbone.res2_channels=16 --set backbone.width_per_group=8 --set roi_heads.mask_conv_dim=8
expect 0 "SIMD" "$GLIA" doctor
expect 0 "CUDA" "$GLIA" doctor
expect 0 'device = "emulated"' "$GLIA" train unet --print-config --device emulated

# a device, by the emulator: train, go on there from a CPU's run and back, predict
TINY=(--set model.base_channels=4 --set model.depth=2 --set data.image_size=32 --set solver.batch_size=2 --set eval.max_images=1
  --set run.log_every=2 --set eval.pictures=0)
expect 0 "" "$GLIA" train unet --data cells --out emulated "${TINY[@]}" --set solver.max_iterations=3 --device emulated
if [ "$(wc -l <emulated/metrics.jsonl)" = 3 ]; then pass; else fail "on a device metrics.jsonl has $(wc -l <emulated/metrics.jsonl) lines"; fi
holds "$(number emulated/metrics.jsonl memory) > 0"
expect 0 "step 3" "$GLIA" train unet --data cells --out emulated "${TINY[@]}" --set solver.max_iterations=5 --device cpu --resume auto
expect 0 "step 5" "$GLIA" train unet --data cells --out emulated "${TINY[@]}" --set solver.max_iterations=6 --device emulated --resume auto
expect 0 "" "$GLIA" predict emulated/checkpoints/last.safetensors --images "cells/train/$(ls cells/train | head -1)" --out found_emulated \
  --write labels --device emulated
expect 0 "map_iou" "$GLIA" evaluate --truth cells --pred found_emulated --device emulated
expect 0 "on emulated" "$GLIA" bench step unet "${TINY[@]}" --mode train --size 32x32 --batch 1 --seconds 0.1 --device emulated

# Mask R-CNN, as small as it goes: three classes, thresholds by class from a file, several images at once
MASKS=(--set backbone.stem_channels=8 --set backbone.res2_channels=16 --set backbone.width_per_group=8 --set backbone.fpn_channels=16
  --set roi_heads.box_fc_dim=32 --set roi_heads.mask_conv_dim=8 --set input.crop=64 --set solver.max_iterations=5 --set eval.every=5
  --set eval.max_images=1 --set eval.pictures=1 --set roi_heads.score_thresh_test=0 --set eval.score_threshold=0)
expect 0 "" "$GLIA" train mask_rcnn_cells --data cells --out masks "${MASKS[@]}"
file masks/checkpoints/last.safetensors masks/results.csv masks/annotation_val.json
holds "$(number masks/metrics.jsonl loss_mask) > 0"
holds "$(number masks/metrics.jsonl loss_rpn_loc) > 0"
grep -q 'classes = \["nucleus", "large_nucleus", "lobed_nucleus"\]' masks/config.toml && pass || fail "config.toml does not name the classes"
expect 0 "" "$GLIA" train mask_rcnn_cells --data cells --out masks "${MASKS[@]}" --resume auto --set solver.max_iterations=6
printf '[eval]\nclass_thresholds = [0.1, 0.2, 0.1]\nmin_sizes = [4]\n' >tuned.toml
expect 0 "" "$GLIA" predict masks/checkpoints/last.safetensors --images cells --out found_masks --settings tuned.toml \
  --set eval.batch_size=3 --set eval.flip=true --write labels,overlay,coco,submission,cells,rois,geojson
file found_masks/submission.csv found_masks/predictions.json
expect 0 "map_iou" "$GLIA" evaluate --truth cells --pred found_masks
expect 0 "map_iou" "$GLIA" evaluate --truth cells --pred found_masks/submission.csv
expect 0 "" "$GLIA" predict masks/checkpoints/last.safetensors --images cells --out found_raw --set eval.remove_overlaps=false --write coco
expect 0 "ap50" "$GLIA" evaluate --truth cells --pred found_raw --max-detections 1,10,1000
expect 0 "tuned by map_iou on 6 images" "$GLIA" evaluate --truth cells --pred found_raw --protocol livecell --tune found.toml --plots charts \
  --worst 2 --json raw.json
file charts/precision_recall.png charts/f1_by_score.png charts/worst.png
holds "$(number raw.json best_f1) >= 0"
expect 0 "" "$GLIA" predict masks/checkpoints/last.safetensors --images cells --out found_tuned --settings found.toml --write coco
# a file of settings names the classes in its own order: the last one's number leaves nothing of the first
printf '[data]\nclasses = ["lobed_nucleus", "large_nucleus", "nucleus"]\n[eval]\nclass_thresholds = [0, 0, 1]\n' >turned.toml
expect 0 "" "$GLIA" predict masks/checkpoints/last.safetensors --images cells --out found_turned --settings turned.toml --write coco
if grep -q '"category_name":"nucleus"' found_turned/predictions.json; then fail "thresholds went to another class"; else pass; fi
printf '[data]\nclasses = ["a", "b", "c"]\n[eval]\nclass_thresholds = [0, 0, 0.5]\n' >strange.toml
expect 2 "no number for the class 'nucleus'" "$GLIA" predict masks/checkpoints/last.safetensors --images cells --out found_strange --settings strange.toml
expect 0 "" "$GLIA" show found_masks --images cells --out looked3 --scores
expect 0 "backbone.bottom_up.stem.conv1.weight" "$GLIA" inspect masks/checkpoints/last.safetensors
expect 0 "" "$GLIA" bench step mask_rcnn_r50_fpn "${MASKS[@]:0:12}" --mode train --size 64x96 --batch 2 --instances 5 --seconds 0.1
expect 0 "" "$GLIA" bench step mask_rcnn_r50_fpn "${MASKS[@]:0:12}" --mode infer --size 64x96 --batch 1 --detections 20 --seconds 0.1 --json masks.json
holds "$(number masks.json gflop) > 0"

expect 0 "" "$GLIA" bench step unet --mode infer --size 64x64 --batch 1 --seconds 0.1 --json bench.json
file bench.json
expect 0 "" "$GLIA" bench step unet --mode train --size 64x64 --batch 1 --instances 5 --seconds 0.1
holds "$(number bench.json median_s) > 0"
expect 0 "implicit_gemm" "$GLIA" bench step unet --mode train --size 64x64 --batch 1 --explain-choice
grep -q "1 x 64x64, .* forward  *winograd  *[1-3]\.[0-9][0-9] " out.txt && pass || fail "no convolution of the UNet is explained"
expect 0 "implicit_gemm" "$GLIA" bench step unet --mode infer --size 64x64 --batch 1 --explain-choice --set run.precision=exact
if grep -q winograd out.txt; then fail "exact precision runs Winograd's algorithm"; else pass; fi
expect 0 "choices are not the faster" "$GLIA" bench "512 8 b2" --explain-choice
grep -q "512 8 b2 | [0-9]*, [0-9]* | [0-9.]* ([0-9]\.[0-9]*)" out.txt && pass || fail "the estimate of the model is not beside the measurement"
if [ "$before" = "$(hash_of cells)" ]; then pass; else fail "the input folder was changed"; fi
finish
