#!/usr/bin/env bash
# Weights from anywhere, through the real program: inspect, convert, start a training from them, and what is refused.
. "$(dirname "$0")/lib.sh"
SAMPLES=${GLIA_SOURCE:?set GLIA_SOURCE to the repository}/tests/fixtures/checkpoints
KERAS_SAMPLES=$GLIA_SOURCE/tests/fixtures/keras
SMALL=(--set model.base_channels=4 --set model.depth=2 --set data.image_size=32 --set solver.max_iterations=2 --set eval.pictures=1)
"$GLIA" synth --out cells --images 3 --size 64x64 --style fluorescence --quiet || exit 1

expect 0 "21 tensors" "$GLIA" inspect "$SAMPLES/state_zip.pth"
expect 0 "PyTorch (before 1.6)" "$GLIA" inspect "$SAMPLES/state_legacy.pth"
expect 0 "0 of 21 tensors differ" "$GLIA" inspect "$SAMPLES/state_legacy.pth" "$SAMPLES/state_zip.pth"
expect 0 "stem.conv1.norm.running_var" "$GLIA" inspect "$SAMPLES/c2_R-50_tiny.pkl"
expect 1 "only in" "$GLIA" inspect "$SAMPLES/zoo_protocol2.pkl" "$SAMPLES/state_zip.pth"
expect 0 "trainer/_trainer/optimizer/param_groups/0/lr 0.02" "$GLIA" inspect "$SAMPLES/train_zip.pth"

for sample in state_zip.pth zoo_protocol4.pkl mixed.safetensors c2_detector_tiny.pkl train_old_legacy.pth; do
  for ending in safetensors pth pkl npz; do
    expect 0 "tensors of" "$GLIA" convert "$SAMPLES/$sample" "there.$ending"
    expect 0 "tensors of" "$GLIA" convert "there.$ending" "back.safetensors"
    expect 0 "" "$GLIA" convert "$SAMPLES/$sample" direct.safetensors
    if [ "$sample" = state_zip.pth ] || [ "$sample" = mixed.safetensors ]; then
      case $ending in pkl | npz) continue ;; esac # bfloat16 became float32
    fi
    expect 0 "0 of" "$GLIA" inspect direct.safetensors back.safetensors
  done
done
expect 0 "tensors of" "$GLIA" convert "$SAMPLES/state_zip.pth" there --to pth
expect 2 "want detectron2 or torchvision" "$GLIA" convert "$SAMPLES/state_zip.pth" x.pth --names keras
expect 2 "--names belongs to files of weights" "$GLIA" convert cells x.json --names torchvision
expect 3 "whole Mask R-CNN" "$GLIA" convert "$SAMPLES/state_zip.pth" x.pth --names torchvision
expect 4 "absent.pth" "$GLIA" convert absent.pth x.safetensors

# a training that starts from another's weights, in whatever format; the table says what was taken
expect 0 "" "$GLIA" train unet --data cells --out first "${SMALL[@]}"
expect 0 "tensors of" "$GLIA" convert first/checkpoints/last.safetensors first.pth
expect 0 "matched" "$GLIA" train unet --data cells --out second "${SMALL[@]}" --set init.weights=first.pth
grep -q 'initial weights: first.pth, PyTorch (zip)' second/train.log && pass || fail "the table is not in the log"
BORDER=(--set model.base_channels=4 --set model.depth=2)
STEPS=(--set solver.max_iterations=2 --set eval.pictures=1)
BINARY=(--set model.target=binary --set "loss.terms={bce=1}" --set loss.class_weights=[])
expect 0 "" "$GLIA" train unet_border --data cells --out border "${BORDER[@]}" "${STEPS[@]}"
expect 0 "re-initialised    2: outc.conv.bias ((3,) in the file, (1,) here)" "$GLIA" train unet_border --data cells --out third "${BORDER[@]}" "${STEPS[@]}" "${BINARY[@]}" --set init.weights=border/checkpoints/last.safetensors
expect 3 "another width or depth" "$GLIA" train unet --data cells --out x "${SMALL[@]}" --set model.base_channels=8 --set init.weights=first.pth
expect 3 "none of its 21 tensors fits" "$GLIA" train unet --data cells --out x "${SMALL[@]}" --set init.weights="$SAMPLES/state_zip.pth"
expect 2 "matches no tensor" "$GLIA" train unet --data cells --out x "${SMALL[@]}" --set init.weights=first.pth --set 'init.ignore=["nothing*"]'
expect 4 "absent.pth" "$GLIA" train unet --data cells --out x "${SMALL[@]}" --set init.weights=absent.pth

# weights alone become a checkpoint that predicts, but only where none would stay random
expect 0 "matched" "$GLIA" convert first.pth made.safetensors --recipe unet --set model.base_channels=4 --set model.depth=2 --set data.image_size=32
expect 0 "" "$GLIA" predict made.safetensors --images cells --out made --write labels
expect 0 "" "$GLIA" predict first/checkpoints/last.safetensors --images cells --out own --write labels
[ "$(cd made && hash_of labels)" = "$(cd own && hash_of labels)" ] && pass || fail "the converted checkpoint predicts something else"
expect 3 "glia convert first.pth weights.safetensors --recipe" "$GLIA" predict first.pth --images cells --out x
expect 3 "would stay random" "$GLIA" convert border/checkpoints/last.safetensors x.safetensors --recipe unet_border "${BORDER[@]}" "${BINARY[@]}"
expect 3 "would stay random" "$GLIA" convert "$SAMPLES/c2_R-50_tiny.pkl" x.safetensors --recipe mask_rcnn_r50_fpn --set backbone.stem_channels=4 --set backbone.res2_channels=8 --set backbone.width_per_group=4
expect 2 "ends in .safetensors" "$GLIA" convert first.pth x.pth --recipe unet
absent x.safetensors

# Keras' files become checkpoints that predict alike, and start trainings
KERAS=(--set model.head=keras --set model.base_channels=2 --set model.depth=1)
expect 0 "Keras (HDF5)" "$GLIA" inspect "$KERAS_SAMPLES/keras_unet.h5"
for kind in h5 weights.h5; do
  expect 0 "matched" "$GLIA" convert "$KERAS_SAMPLES/keras_unet.$kind" "$kind.safetensors" --recipe unet "${KERAS[@]}"
done
expect 0 "0 of 18 tensors differ" "$GLIA" inspect h5.safetensors weights.h5.safetensors
expect 0 "" "$GLIA" predict h5.safetensors --images cells --out keras --write labels
expect 0 "matched          18 of the model's 18 tensors" "$GLIA" train unet --data cells --out fourth "${KERAS[@]}" --set solver.max_iterations=1 --set eval.pictures=0 --set init.weights="$KERAS_SAMPLES/keras_unet.weights.h5"
# and are written for Keras again
expect 0 "18 tensors of h5.safetensors" "$GLIA" convert h5.safetensors back.weights.h5
expect 0 "" "$GLIA" export "$KERAS_SAMPLES/keras_unet.h5" --to direct.weights.h5
cmp -s back.weights.h5 direct.weights.h5 && pass || fail "a checkpoint and its source become other files of Keras"
expect 0 "matched" "$GLIA" convert back.weights.h5 again.safetensors --recipe unet "${KERAS[@]}"
expect 0 "0 of 18 tensors differ" "$GLIA" inspect h5.safetensors again.safetensors
expect 2 "ends in .weights.h5" "$GLIA" convert h5.safetensors x.h5
expect 2 "ends in .weights.h5" "$GLIA" convert h5.safetensors x --to h5
expect 2 "without --names" "$GLIA" convert h5.safetensors x.weights.h5 --names torchvision
expect 3 "is of no layer that Keras has" "$GLIA" convert border/checkpoints/last.safetensors x.weights.h5
absent x.h5 x.weights.h5
head -c 20000 "$KERAS_SAMPLES/keras_unet.h5" >cut.h5
expect 3 "cut.h5: damaged HDF5 file" "$GLIA" inspect cut.h5

# how long reading takes
expect 0 "PyTorch (zip), 21 tensors" "$GLIA" bench load "$SAMPLES/state_zip.pth" --seconds 0 --json load.json
holds "$(number load.json bytes) > 0 && $(number load.json first_s) > 0 && $(number load.json runs) == 1"
expect 2 "which file of weights" "$GLIA" bench load
expect 4 "absent.pth" "$GLIA" bench load absent.pth

# networks as ONNX
expect 0 "the network of unet_keras as ONNX, opset 17" "$GLIA" convert first/checkpoints/last.safetensors net.onnx
file net.onnx
expect 0 "unet_milesial as ONNX" "$GLIA" convert border/checkpoints/last.safetensors there --to onnx
expect 2 "without --recipe" "$GLIA" convert first.pth x.onnx --recipe unet
expect 3 "weights alone" "$GLIA" convert first.pth x.onnx
cp first.pth cyto3  # as Cellpose calls its models
expect 3 "glia convert cyto3 weights.safetensors" "$GLIA" predict cyto3 --images cells --out x
printf '\022\001\0\0\0\0\0\0and so on' >cyto_0
expect 3 "weights of MXNet" "$GLIA" inspect cyto_0
expect 4 "absent.safetensors" "$GLIA" convert absent.safetensors x.onnx
expect 0 "" "$GLIA" train cellpose --data cells --out flows --set cellpose.base_channels=4 --set cellpose.crop=64 --set cellpose.min_train_masks=1 --set solver.batch_size=2 --set solver.max_iterations=1 --set eval.pictures=0
expect 3 "no export to ONNX for this system" "$GLIA" convert flows/checkpoints/last.safetensors x.onnx
absent x.onnx
BACKBONE=(--set backbone.stem_channels=8 --set backbone.res2_channels=16 --set backbone.width_per_group=8 --set backbone.fpn_channels=16
  --set roi_heads.box_fc_dim=32 --set roi_heads.mask_conv_dim=8 --set input.crop=64 --set eval.pictures=0)
expect 0 "" "$GLIA" train mask_rcnn_cells --data cells --out boxes "${BACKBONE[@]}" --set solver.max_iterations=1 --set solver.batch_size=1
expect 0 "the backbone (p2 to p6, without the heads) of mask_rcnn as ONNX" "$GLIA" convert boxes/checkpoints/last.safetensors backbone.onnx

# glia export is glia convert of a checkpoint
expect 0 "the network of unet_keras as ONNX" "$GLIA" export first/checkpoints/last.safetensors --to exported.onnx
cmp -s net.onnx exported.onnx && pass || fail "glia export writes another model than glia convert"
expect 0 "tensors of" "$GLIA" export first/checkpoints/last.safetensors --to exported.pth
cmp -s first.pth exported.pth && pass || fail "glia export writes other weights than glia convert"
expect 2 "end it in .onnx, .safetensors, .pth" "$GLIA" export first/checkpoints/last.safetensors --to cells.json
expect 2 "--to" "$GLIA" export first/checkpoints/last.safetensors
absent cells.json

# hostile files: data, whatever is asked of them
printf '\200\002cos\nsystem\nX\020\000\000\000touch was_here_1 \205R.' >evil.pkl
for command in "inspect evil.pkl" "convert evil.pkl x.safetensors" "train unet --data cells --out y --set init.weights=evil.pkl"; do
  expect 3 "evil.pkl: the pickle names os.system" "$GLIA" $command
done
absent was_here_1 x.safetensors
# little address space is needed; the address sanitizer alone takes terabytes
if grep -q __asan_init "$GLIA"; then pass; elif (ulimit -v 2097152; "$GLIA" inspect "$SAMPLES/state_zip.pth" >out.txt 2>&1); then pass; else fail "inspect under 2 GB of address space"; fi
finish
