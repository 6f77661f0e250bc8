#!/usr/bin/env bash
# LIVECell's recipe on made-up data in LIVECell's form, and from there to the three classes of Sartorius: a toy of the network, all else as it is.
. "$(dirname "$0")/lib.sh"
TOY=(--set backbone.stem_channels=8 --set backbone.res2_channels=16 --set backbone.width_per_group=8 --set backbone.fpn_channels=16
  --set roi_heads.box_fc_dim=32 --set roi_heads.mask_conv_dim=8 --set input.min_size_train=[64,80] --set input.min_size_test=64
  --set solver.max_iterations=2 --set data.workers=0 --set eval.pictures=0 --set eval.max_images=1)
NORM=(--set backbone.norm=bn --set backbone.freeze_at=0)
LIVECELL=(--images livecell/images --val livecell/livecell_coco_val.json)

# images by cell type in TIFF's place, one category "cell" for all, types in the names alone
"$GLIA" synth --out made --images 16 --size 64x80 --classes 1 --quiet || exit 1
"$GLIA" convert made made.json --quiet || exit 1
sed -i 's/"name":"shsy5y"/"name":"cell"/' made.json
number=0
for image in $(sed -n 's/.*"file_name":"\([^"]*\)".*/\1/p' made.json); do
  types=(A172 BT474 BV2 Huh7 MCF7 SHSY5Y SkBr3 SKOV3)
  type=${types[$((number % 8))]}
  mkdir -p livecell/images/"$type"
  cp made/train/"$image" livecell/images/"$type/${type}_Phase_$image"
  sed -i "s/\"$image\"/\"${type}_Phase_$image\"/" made.json
  number=$((number + 1))
done
cp made.json livecell/livecell_coco_train.json
cp made.json livecell/livecell_coco_val.json

expect 0 "class_from = \"name\"" "$GLIA" train livecell/mask_rcnn_r50_fpn --print-config
expect 0 "anchor_sizes = [9.0, 17.0, 31.0, 64.0, 127.0]" "$GLIA" train livecell/mask_rcnn_r50_fpn --print-config
expect 4 "mask_rcnn_R_50_FPN_3x.safetensors" "$GLIA" train livecell/mask_rcnn_r50_fpn --data livecell/livecell_coco_train.json "${LIVECELL[@]}" --out x "${TOY[@]}"
expect 0 "proposal_generator" "$GLIA" train livecell/mask_rcnn_r50_fpn --data livecell/livecell_coco_train.json "${LIVECELL[@]}" --explain "${TOY[@]}" "${NORM[@]}" --set init.weights=
expect 0 "" "$GLIA" train livecell/mask_rcnn_r50_fpn --data livecell/livecell_coco_train.json "${LIVECELL[@]}" --out livecell8 "${TOY[@]}" "${NORM[@]}" --set init.weights=
for type in A172 BT474 BV2 Huh7 MCF7 SHSY5Y SkBr3 SKOV3; do
  grep -q "\"name\":\"$type\"" livecell8/annotation_train.json && pass || fail "no class $type in annotation_train.json"
done
# the image of SKOV3, the eighth, has category 8
image=$(grep -m1 'SKOV3_Phase' livecell8/annotation_train.json | sed 's/.*"id":\([0-9]*\).*/\1/')
grep -q "\"image_id\":$image,\"category_id\":8," livecell8/annotation_train.json && pass || fail "cells of SKOV3 are no category 8"
grep -q "\"image_id\":$image,\"category_id\":[1-7]," livecell8/annotation_train.json && fail "cells of SKOV3 are of another category" || pass

# to three classes: heads anew, everything else taken, the listed rows those of 8 and 3 classes
cp livecell8/checkpoints/last.safetensors livecell.safetensors
"$GLIA" synth --out sartorius --images 5 --size 64x80 --quiet || exit 1
expect 0 "re-initialised    6: roi_heads.box_predictor.bbox_pred.bias ((32,) in the file, (12,) here)" "$GLIA" train livecell/sartorius --data sartorius --out sartorius_run "${TOY[@]}" "${NORM[@]}"
for row in "roi_heads.box_predictor.cls_score.bias ((9,) in the file, (4,) here)" "roi_heads.mask_head.predictor.bias ((8,) in the file, (3,) here)"; do
  grep -qF "$row" sartorius_run/train.log && pass || fail "train.log lacks: $row"
done
grep -q "missing" sartorius_run/train.log && fail "weights are missing" || pass
expect 0 "" "$GLIA" predict sartorius_run/checkpoints/last.safetensors --images sartorius --out found --write submission --set roi_heads.score_thresh_test=0

# the study's own transfer: other anchors, so the proposals' layers start anew too
expect 0 "proposal_generator.rpn_head.objectness_logits.bias ((5,) in the file, (3,) here)" "$GLIA" train study/08 --data sartorius --out run08 "${TOY[@]}" "${NORM[@]}"

# mistakes
expect 2 "data.class_from" "$GLIA" train mask_rcnn_cells --data sartorius --out x --set data.class_from=name
expect 3 "begins with none of data.classes: A172" "$GLIA" train livecell/mask_rcnn_r50_fpn --data sartorius --out x "${TOY[@]}" "${NORM[@]}" --set init.weights=
finish
