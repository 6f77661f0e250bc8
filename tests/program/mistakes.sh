#!/usr/bin/env bash
# What a user gets for mistakes: the exit code, a phrase that helps, and nothing half-written.
. "$(dirname "$0")/lib.sh"
SMALL=(--set model.base_channels=8 --set model.depth=2 --set data.image_size=32 --set solver.max_iterations=2)
"$GLIA" synth --out cells --images 3 --size 64x64 --style fluorescence --quiet || exit 1

# usage and configuration: 2
expect 2 "did you mean 'train'" "$GLIA" trian
expect 2 "did you mean '--data'" "$GLIA" train unet --dta cells --out run
expect 2 "--out is required" "$GLIA" train unet --data cells
expect 2 "did you mean solver.lr?" "$GLIA" train unet --data cells --out run --set solver.lrr=1
expect 2 "solver.lr" "$GLIA" train unet --data cells --out run --set solver.lr=fast
expect 2 "batch_size" "$GLIA" train unet --data cells --out run --set solver.batch_size=0
expect 2 "val_fraction" "$GLIA" train unet --data cells --out run --set data.val_fraction=1
expect 2 "image_size" "$GLIA" train unet --data cells --out run --set data.image_size=250
expect 2 "anchor_sizes" "$GLIA" train mask_rcnn_cells --data cells --out run --set rpn.anchor_sizes=[8,16]
expect 2 "detections_per_image" "$GLIA" train mask_rcnn_cells --data cells --out run --set roi_heads.detections_per_image=0
expect 2 "want one of frozen_bn" "$GLIA" train mask_rcnn_cells --data cells --out run --set backbone.norm=batch
expect 2 "is no loss of mask_rcnn" "$GLIA" train mask_rcnn_cells --data cells --out run --set "loss.terms={bce=1}"
expect 2 "models of system mask_rcnn" "$GLIA" train unet --data cells --out run --set rpn.nms_thresh=0.5
expect 2 "models of system unet" "$GLIA" train mask_rcnn_cells --data cells --out run --set model.base_channels=8
expect 2 "did you mean unet" "$GLIA" train unett --data cells --out run
expect 2 "did you mean map_iou" "$GLIA" train unet --data cells --out run --set eval.metric=map_iuo
expect 2 "there are loss" "$GLIA" train unet_border --data cells --out run --set early_stopping.metric=bce
expect 2 "--images" "$GLIA" predict run/checkpoints/best.safetensors --out p
expect 2 "--from" "$GLIA" convert cells x --from tiff --to labels
expect 2 "format" "$GLIA" convert cells x
expect 2 "nosuchkernel" "$GLIA" bench nosuchkernel
mkdir found && echo '[]' >found/predictions.json
expect 2 "--images" "$GLIA" show found --out p
expect 2 "detections" "$GLIA" bench step unet --size 64x64 --batch 1 --detections 5
expect 2 "--max-detections" "$GLIA" evaluate --truth cells --pred cells/labels --max-detections 10,1,100
expect 2 "want HxW" "$GLIA" synth --out x --size 0x5
expect 2 "style" "$GLIA" synth --out x --style brightfield
printf '[solver]\nlr = "high"\n' >bad.toml
expect 2 "bad.toml:2" "$GLIA" train bad.toml --data cells --out run
printf '[solver\n' >broken.toml
expect 2 "broken.toml" "$GLIA" train broken.toml --data cells --out run
expect 2 "device" "$GLIA" train unet --data cells --out run --device gpu
expect 2 "run.precision" "$GLIA" train unet --data cells --out run --set run.precision=fp8

# devices: 7, before any data is read
expect 7 "device cuda:99: " "$GLIA" train unet --data cells --out run --device cuda:99
expect 7 "device cuda:99: " "$GLIA" predict run/checkpoints/best.safetensors --images cells --out p --device cuda:99
expect 2 "--explain-choice" "$GLIA" bench step unet --size 64x64 --batch 1 --device emulated --explain-choice
expect 7 "device cuda:99: " "$GLIA" bench step unet --size 64x64 --batch 1 --device cuda:99
expect 7 "emulated has none" "$GLIA" train unet --data cells --out run --device emulated --kernels reference
expect 7 "own kernels only" "$GLIA" predict run/checkpoints/best.safetensors --images cells --out p --device emulated --kernels vendor
expect 6 "out of memory on emulated" "$GLIA" train unet --data cells --out capped3 "${SMALL[@]}" --device emulated --mem-limit 50K
expect 6 "solver.batch_size" env GLIA_EMULATE=1 "$GLIA" train unet --data cells --out capped4 "${SMALL[@]}" --mem-limit 50K
expect 6 "was refused by the system" env GLIA_EMULATE_MEMORY=50000 "$GLIA" train unet --data cells --out capped5 "${SMALL[@]}" --device emulated
absent run x
# what a machine may lack, as the emulator plays it
lacks() { env GLIA_EMULATE_FAULT="$1" "$GLIA" train unet --data cells --out lacking "${SMALL[@]}" --device emulated "${@:2}"; }
expect 7 "no NVIDIA driver is installed" lacks no_driver
expect 7 "the NVIDIA driver is too old: it supports CUDA 11.4, this program was built with 13.0" lacks old_driver
expect 7 "the NVIDIA driver shows no GPU" lacks no_gpu
expect 7 "compute capability 9.0); it was built for sm_90" lacks no_code
absent lacking
# NVIDIA's libraries that are broken, or of another major version, are done without
if "$GLIA" doctor | grep -q '^cuDNN'; then
  mkdir broken && echo junk >broken/libcudnn.so.9
  expect 0 "cuDNN         not used: " env LD_LIBRARY_PATH=broken "$GLIA" doctor
  mkdir older
  stubs() { grep -o "X($1[A-Za-z0-9_]*)" "$GLIA_SOURCE/kernels/vendor/$1".* | sed 's/.*X(\(.*\))/\1/' | grep -v "$2" | sed 's/.*/int &(void) { return 0; }/'; }
  { stubs cudnn cudnnGetVersion; echo 'unsigned long cudnnGetVersion(void) { return 89700; }'; } >cudnn.c
  { stubs cublas cublasGetProperty; echo 'int cublasGetProperty(int t, int* v) { *v = 11; return t; }'; } >cublas.c
  blas=$(basename "$(grep -o '/[^ ]*libcublas.so.[0-9]*' <<<"$(ldconfig -p)" | head -1)")
  g++ -x c -shared -fPIC -o older/libcudnn.so.9 cudnn.c && g++ -x c -shared -fPIC -o "older/${blas:-libcublas.so.13}" cublas.c
  expect 0 "cuDNN         not used: it is version 89700, want 9.x" env LD_LIBRARY_PATH=older "$GLIA" doctor
  expect 0 "cuBLAS        not used: it is version 11, want" env LD_LIBRARY_PATH=older "$GLIA" doctor
fi
# a kernel that fails while nobody waits for it
expect 7 "the failing kernel may be an earlier one: run with --sync" lacks kernel:40
rm -rf lacking
expect 7 "kernel at " lacks kernel:40 --sync
rm -rf lacking

# data: 3
expect 3 "no such file or folder" "$GLIA" check-data nowhere
mkdir empty
expect 3 "layout coco" "$GLIA" convert cells x.json --from coco
expect 3 "an empty folder" "$GLIA" train unet --data empty --out run "${SMALL[@]}"
cp -r cells damaged
head -c 100 cells/train/"$(ls cells/train | head -1)" >damaged/train/"$(ls cells/train | head -1)"
expect 3 "$(ls cells/train | head -1)" "$GLIA" check-data damaged
cp -r cells odd
sed -i '2s/,\([0-9]* \)/,7 \1/' odd/train.csv
expect 3 "train.csv:2" "$GLIA" check-data odd
cp -r cells lost
rm lost/train/"$(ls cells/train | head -1)"
expect 3 "$(ls cells/train | head -1 | sed 's/.png//')" "$GLIA" check-data lost
mkdir several && cp -r cells/train several/images && echo '{}' >several/a.json && echo '{}' >several/b.json
expect 3 "a.json" "$GLIA" check-data several
head -1 cells/train.csv >none.csv && mkdir -p noann/train && cp cells/train/* noann/train && cp none.csv noann/train.csv
expect 3 "not one instance" "$GLIA" train unet --data noann --out run "${SMALL[@]}"
expect 3 "model.num_classes = 2" "$GLIA" train mask_rcnn_cells --data cells --out run_classes --set model.num_classes=2
expect 3 "'nucleus'" "$GLIA" train mask_rcnn_cells --data cells --out run_names --set 'data.classes=["a","b"]'
expect 4 "mask_rcnn_R_50_FPN_3x.safetensors" "$GLIA" train study/05 --data cells --out run_study --set model.num_classes=0 --set 'data.classes=[]'
echo junk >junk.safetensors
expect 3 "junk.safetensors" "$GLIA" predict junk.safetensors --images cells --out p
expect 3 "a folder" "$GLIA" inspect cells
expect 3 "not a valid safetensors file" "$GLIA" inspect junk.safetensors
expect 2 "cells/checkpoints/best.safetensors" "$GLIA" predict cells --images cells --out p
expect 4 "no.safetensors" "$GLIA" predict no.safetensors --images cells --out p
absent p

# a user's files are never replaced: results go to a folder of their own, and a folder split twice keeps its images
expect 2 "name another folder" "$GLIA" show cells --out cells/train
expect 2 "name another folder" "$GLIA" show cells --out cells
"$GLIA" split cells --out parts --copy --quiet
before=$(hash_of parts/images)
expect 0 "" "$GLIA" split parts/annotation_all.json --out parts --val 0.4
if [ "$before" = "$(hash_of parts/images)" ]; then pass; else fail "split replaced its own images"; fi

# links that lead out of the data set are refused unless allowed, by predict as well
mkdir -p links/images && for i in cells/train/*; do ln -s "$PWD/$i" links/images/; done
"$GLIA" convert cells links/cells.json --quiet
expect 3 "--allow-outside" "$GLIA" check-data links/cells.json
expect 0 "" "$GLIA" check-data links/cells.json --allow-outside
expect 0 "" "$GLIA" show links/cells.json --allow-outside --out p1

# one image trains without validation, with a warning
mkdir -p single/train
only=$(ls cells/train | head -1)
cp cells/train/"$only" single/train/
{ head -1 cells/train.csv; grep "^${only%.png}," cells/train.csv; } >single/train.csv
expect 0 "without validation" "$GLIA" train unet --data single --out run1 "${SMALL[@]}"

# validation images without a single cell: one warning, scores of false positives all the same, and predict takes the file
"$GLIA" convert cells all.json --quiet
sed -n '/"categories"/q;p' all.json >none.json
echo '"annotations": [], "categories": [{"id": 1, "name": "cell"}]}' >>none.json
expect 0 "validation images have no instance" "$GLIA" train unet --data cells --val none.json --images cells/train --out run2 "${SMALL[@]}"
expect 0 "" "$GLIA" predict run2/checkpoints/last.safetensors --images none.json --image-folder cells/train --out found_none
expect 0 "the truth has no instance" "$GLIA" evaluate --truth none.json --pred found_none
# a bad image does not lose the others; --on-corrupt skip leaves it out
best=run1/checkpoints/last.safetensors
mkdir mixed && cp cells/train/* mixed/ && head -c 300 cells/train/"$only" >mixed/zz.png
expect 3 "3 of 4 images are in the files" "$GLIA" predict $best --images mixed --out mixed_out --write coco,cells,submission
file mixed_out/predictions.json mixed_out/cells.csv mixed_out/submission.csv
expect 0 "left out" "$GLIA" predict $best --images mixed --out mixed_out --write coco --on-corrupt skip
mkdir bad && head -c 300 cells/train/"$only" >bad/a.png
before=$(hash_of mixed_out)
expect 3 "bad/a.png" "$GLIA" predict $best --images bad --out mixed_out --write coco
expect 3 "not one of the 1 images can be read" "$GLIA" predict $best --images bad --out mixed_out --write coco --on-corrupt skip
if [ "$before" = "$(hash_of mixed_out)" ]; then pass; else fail "a prediction of nothing replaced an earlier one"; fi
mkdir taken && touch taken/labels
expect 4 "taken/labels" "$GLIA" predict $best --images cells --out taken
expect 0 "mixed_out/submission.csv is of an earlier prediction" "$GLIA" predict $best --images mixed --out mixed_out --write coco --on-corrupt skip
mkdir many && for i in $(seq 300); do cp cells/train/"$only" many/$i.png; done
"$GLIA" predict $best --images many --out stopped_out --write coco,labels >out.txt 2>&1 &
pid=$!
for _ in $(seq 100); do
  [ -d stopped_out/labels ] && [ "$(ls stopped_out/labels | wc -l)" -gt 3 ] && break
  sleep 0.02
done
kill -INT "$pid"
code=0
wait "$pid" || code=$?
if [ "$code" = 130 ]; then pass; else fail "interrupted prediction ended with $code instead of 130"; fi
file stopped_out/predictions.json
expect 6 "model.tile" "$GLIA" predict $best --images cells --out p2 --mem-limit 2M --set data.image_size=512
printf '[model]\nname = "mask_rcnn"\n' >other.toml
expect 2 "--settings other.toml" "$GLIA" predict $best --images cells --out p3 --settings other.toml
cp -r cells cut && head -c 300 cells/train/"$only" >cut/train/"$only"
expect 0 "left out" "$GLIA" train unet --data cut --out run_cut "${SMALL[@]}" --on-corrupt skip
expect 2 "eval.class_thresholds" "$GLIA" train mask_rcnn_cells --data cells --out run_per_class --set eval.class_thresholds=[0.1,0.2,0.3,0.4,0.5]

expect 2 "anchor_offset" "$GLIA" train mask_rcnn_cells --data cells --out run_offset --set rpn.anchor_offset=1
expect 2 "augment.brightness" "$GLIA" train mask_rcnn_cells --data cells --out run_bright --set augment.brightness=2
expect 2 "--max-detections" "$GLIA" evaluate --truth cells --pred cells/labels --max-detections 1,10,99999999999
expect 2 "--json" "$GLIA" bench conv --device emulated --json f.json
expect 2 "GLIA_SIMD=mmx" env GLIA_SIMD=mmx "$GLIA" doctor
expect 0 "SIMD          scalar" env GLIA_SIMD=scalar "$GLIA" doctor

# other data than the run's, of as many images, are noticed when it goes on; of another number they are refused, and the run stays
"$GLIA" train unet --data cells --out run3 "${SMALL[@]}" --quiet
"$GLIA" synth --out others --images 3 --size 64x64 --style fluorescence --seed 7 --quiet
"$GLIA" synth --out more --images 23 --size 64x64 --style fluorescence --seed 7 --quiet
before=$(hash_of run3)
expect 2 "batches" "$GLIA" train unet --data more --out run3 "${SMALL[@]}" --resume auto --set solver.max_iterations=3
if [ "$before" = "$(hash_of run3)" ]; then pass; else fail "a refused resume changed the run"; fi
expect 0 "are not those that the run was started with" "$GLIA" train unet --data others --out run3 "${SMALL[@]}" --resume auto --set solver.max_iterations=3

# writing: 4
if [ "$(id -u)" = 0 ] && mkdir -p tiny && mount -t tmpfs -o size=256k tmpfs tiny 2>/dev/null; then
  expect 4 "disk is full" "$GLIA" train unet --data cells --out tiny/run "${SMALL[@]}"
  expect 4 "No space left" "$GLIA" synth --out tiny/more --images 20 --size 256x256
  rm -r tiny/run tiny/more
  expect 4 "the training goes on, and tries again" "$GLIA" train unet --data cells --out tiny/run2 "${SMALL[@]}" --on-save-error warn \
    --set checkpoint.every=1
  mount -o remount,ro tiny
  expect 4 "the file system is read-only" "$GLIA" convert cells tiny/x.json
  expect 4 "tiny/run3" "$GLIA" train unet --data cells --out tiny/run3 "${SMALL[@]}"
  umount tiny
fi
expect 4 "larger than the system or" bash -c 'ulimit -f 40; exec "$@"' _ "$GLIA" train unet --data cells --out limited "${SMALL[@]}"
absent limited/checkpoints/last.safetensors
touch plain
expect 4 "plain" "$GLIA" train unet --data cells --out plain/run "${SMALL[@]}"

# the memory cap: 6, with the largest tensors named
expect 6 "largest live tensors" "$GLIA" train unet --data cells --out capped "${SMALL[@]}" --mem-limit 300K
expect 6 "largest live tensors" "$GLIA" train unet --data cells --out capped2 "${SMALL[@]}" --set run.memory_limit=0.0003

# divergence: 5, weights stay finite
expect 5 "likely cause: the learning rate" "$GLIA" train unet --data cells --out wild "${SMALL[@]}" --set solver.optimizer=sgd --set solver.lr=1e6 \
  --set solver.max_iterations=20
expect 5 "4 such steps in a row" "$GLIA" train unet --data cells --out wild "${SMALL[@]}" --set solver.optimizer=sgd --set solver.lr=1e6 \
  --set solver.max_iterations=20 --overwrite
file wild/diverged/step-000005.txt wild/diverged/step-000005.png wild/checkpoints/last.safetensors
# the report's command runs the step again
replay=$(grep -h 'glia train.*--on-nan stop' wild/diverged/step-000005.txt)
expect 5 "step 5: the loss is not finite" bash -c "${replay//  glia train/\"$GLIA\" train}"
expect 2 "skip:N" "$GLIA" train unet --data cells --out wild "${SMALL[@]}" --on-nan skip
expect 2 "checkpoint.on_error" "$GLIA" train unet --data cells --out wild "${SMALL[@]}" --on-save-error ignore

TOY=(--set backbone.stem_channels=8 --set backbone.res2_channels=16 --set backbone.width_per_group=8 --set backbone.fpn_channels=16
  --set roi_heads.box_fc_dim=32 --set roi_heads.mask_conv_dim=8 --set input.crop=64 --set solver.max_iterations=8 --set eval.pictures=0)
expect 5 "likely cause: the learning rate" "$GLIA" train mask_rcnn_cells --data cells --out wild2 "${TOY[@]}" --set solver.lr=1e6 \
  --set solver.clip_norm=0 --set solver.warmup_iterations=0
expect 6 "input.crop" "$GLIA" train mask_rcnn_cells --data cells --out capped5 "${TOY[@]}" --mem-limit 1M
expect 0 "come with pretrained weights" "$GLIA" train mask_rcnn_cells --data cells --out frozen "${TOY[@]}" --set backbone.norm=frozen_bn \
  --set solver.max_iterations=1

# an interrupt saves and exits with 130; the run goes on
"$GLIA" train unet --data cells --out stopped "${SMALL[@]}" --set solver.max_iterations=100000 >out.txt 2>&1 &
pid=$!
for _ in $(seq 100); do
  [ -f stopped/metrics.jsonl ] && [ "$(wc -l <stopped/metrics.jsonl)" -gt 3 ] && break
  sleep 0.1
done
kill -INT "$pid"
code=0
wait "$pid" || code=$?
if [ "$code" = 130 ]; then pass; else fail "interrupted training ended with $code instead of 130"; fi
file stopped/checkpoints/last.safetensors
expect 0 "" "$GLIA" train unet --data cells --out stopped "${SMALL[@]}" --resume auto --set solver.max_iterations=100000 --set solver.max_epochs=1
finish
