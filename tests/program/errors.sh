#!/usr/bin/env bash
# Every row of docs/errors.md: its command gives its exit code and its message, so that the table says what the program says.
. "$(dirname "$0")/lib.sh"
ROOT=${GLIA_SOURCE:?set GLIA_SOURCE to the repository}
FILES=$ROOT/tests/fixtures/checkpoints
ARRAYS=$ROOT/tests/fixtures/data
TABLE=$ROOT/docs/errors.md
ROWS=0
# row CODE MESSAGE COMMAND...: the table has a row `MESSAGE` | CODE, and the command ends so.
row() {
  expect "$@"
  ROWS=$((ROWS + 1))
  if grep -qF -- "| \`$2\` | $1 |" "$TABLE"; then pass; else fail "docs/errors.md has no row: $2 | $1"; fi
}
inspect() { row 3 "$1" "$GLIA" inspect "$2"; }
SMALL=(--set model.base_channels=4 --set model.depth=2 --set data.image_size=32 --set solver.max_iterations=2 --set eval.pictures=1)
train() { "$GLIA" train unet --data cells --out x "${SMALL[@]}" "$@"; }
"$GLIA" synth --out cells --images 3 --size 64x64 --quiet || exit 1
"$GLIA" train unet --data cells --out run "${SMALL[@]}" --quiet >out.txt 2>&1 || fail "the training that the others need"
OWN=run/checkpoints/last.safetensors

row 4 "cannot open: No such file or directory; check the path" "$GLIA" inspect absent.pth
inspect "a folder; name a file" cells
: >empty.pth
inspect "the file is empty" empty.pth
echo '<!DOCTYPE html><html>Not found</html>' >page.pth
inspect "no file of weights that is known" page.pth
inspect "a ZIP archive that is neither PyTorch's (no data.pkl) nor NumPy's" "$ARRAYS/RoiSet.zip"
{ head -c 257 /dev/zero; printf 'ustar'; head -c 250 /dev/zero; } >old.pth
inspect "PyTorch's oldest format (a tar archive) is not read" old.pth

printf '\200\002cos\nsystem\nX\005\000\000\000touch\205R.' >evil.pkl
inspect "which is none of the types that hold weights; nothing of it was run" evil.pkl
inspect "a NumPy array of Python objects is not supported; save numbers" "$ARRAYS/broken_object_array.npy"

head -c 4000 "$FILES/zoo_protocol2.pkl" >cut.pkl
inspect "are left; the file was cut off" cut.pkl
head -c 4000 "$FILES/state_zip.pth" >cut.pth
inspect "no directory at its end; the file was cut off, or is no ZIP archive" cut.pth
head -c 3000 "$FILES/state_legacy.pth" >cut_old.pth
inspect "are promised, and 9 bytes are left" cut_old.pth
head -c 2000 "$FILES/mixed.safetensors" >cut.safetensors
inspect "of the data, but the file holds 560; it was cut off" cut.safetensors
inspect "bytes of data, which is not what shape (11, 13) of f4 takes" "$ARRAYS/broken_truncated_data.npy"
{ cat "$FILES/zoo_protocol2.pkl"; echo more; } >longer.pkl
inspect "bytes after the end of the pickle" longer.pkl
cp "$OWN" flipped.safetensors
printf '\377' | dd of=flipped.safetensors bs=1 seek=$(($(stat -c %s "$OWN") - 5)) conv=notrunc status=none
inspect "the file says otherwise; it was damaged after it was written" flipped.safetensors
inspect "tensors overlap or leave a hole" "$ARRAYS/broken_overlapping.safetensors"
inspect "shape [8589934592, 8589934592] overflows" "$ARRAYS/broken_shape_overflow.safetensors"
inspect "unknown dtype" "$ARRAYS/broken_unknown_dtype.safetensors"
inspect "at offset 0, at most 100000000 are allowed" "$ARRAYS/broken_header_over_end.safetensors"

# flipped NAME FILE AT OCTAL: a copy with one byte changed.
flipped() { cp "$2" "$1" && printf '%b' "\\0$4" | dd of="$1" bs=1 seek="$3" conv=notrunc status=none; }
flipped changed.pth "$FILES/state_zip.pth" $(($(grep -abo 'data/0' "$FILES/state_zip.pth" | head -1 | cut -d: -f1) + 80)) 377
inspect "has a wrong checksum" changed.pth
head -c 20000 "$ROOT/tests/fixtures/keras/keras_unet.h5" >cut.h5
inspect "damaged HDF5 file: " cut.h5
flipped newer.h5 "$ROOT/tests/fixtures/keras/keras_unet.h5" 8 3
inspect "superblock version 3; want a file of h5py's default settings" newer.h5

row 3 "--file-limit pixels=NUMBER raises it" "$GLIA" check-data cells --file-limit pixels=4095
expect 0 "" "$GLIA" check-data cells --file-limit pixels=4096
row 3 "--file-limit tensor_growth=NUMBER raises it" "$GLIA" inspect "$FILES/state_zip.pth" --file-limit tensor_growth=1
expect 0 "" "$GLIA" inspect "$FILES/state_zip.pth"
row 2 "--file-limit 'pixel=4': want NAME=NUMBER" "$GLIA" check-data cells --file-limit pixel=4

row 3 "no checkpoint of Glia: metadata \"format\" is" "$GLIA" predict "$FILES/mixed.safetensors" --images cells --out x
row 3 "none of its 21 tensors fits the model" train --set init.weights="$FILES/state_zip.pth"
row 3 "(another width or depth? init.ignore leaves a tensor out)" train --set model.base_channels=8 --set init.weights=$OWN
row 2 "matches no tensor of the model" train --set init.weights=$OWN --set 'init.ignore=["nothing*"]'
row 3 "want the weights of a whole Mask R-CNN by detectron2's names" "$GLIA" convert "$FILES/state_zip.pth" x.pth --names torchvision
row 2 "want detectron2 or torchvision" "$GLIA" convert "$FILES/state_zip.pth" x.pth --names keras
row 2 "--recipe makes a checkpoint of Glia: TO ends in .safetensors" "$GLIA" convert $OWN x.pth --recipe unet

header='{"conv2d.weight":{"dtype":"F32","shape":[4,1,3,3],"data_offsets":[0,144]}}'
{ printf '%b' "\\0$(printf %o ${#header})\\0\\0\\0\\0\\0\\0\\0"; printf %s "$header"; yes | head -c 144 | tr 'y\n' '\377\377'; } >nan.safetensors
row 3 "holds numbers that are not finite" train --set init.weights=nan.safetensors
row 2 "Keras loads weights from a file that ends in .weights.h5" "$GLIA" convert $OWN x.h5
row 3 "is of no layer that Keras has" "$GLIA" convert "$FILES/state_zip.pth" x.weights.h5

row 3 "no such file or folder" "$GLIA" check-data nowhere
mkdir -p columns/train && cp "$ARRAYS/broken_missing_column.csv" columns/train.csv
row 3 "no column \"annotation\"; its columns are" "$GLIA" check-data columns
row 2 "unknown key \"solver.lrr\" (did you mean solver.lr?)" train --set solver.lrr=1
row 2 "want a number from 0 to 1e+06" train --set solver.lr=fast
absent x/checkpoints/last.safetensors x.pth

if [ "$(grep -c '^| `' "$TABLE")" = "$ROWS" ]; then pass; else fail "$TABLE has rows that no command here makes"; fi
finish
