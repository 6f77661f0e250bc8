#pragma once
// One function per reader of files from others: it reads the bytes as that kind of file, all of it. A DataError (of a configuration: a UsageError) is a good answer; any other
// exception, a crash, a report of a sanitizer, 512 MB or 5 s are finds. tests/fuzz/main.cpp makes a libFuzzer program of each
// (scripts/fuzz.sh), and tests/test_fuzz_finds.cpp replays what was found.
#include <cstddef>
#include <span>

namespace glia::tests {

using Bytes = std::span<const std::byte>;

void fuzz_zip(Bytes bytes);          // F7
void fuzz_pickle(Bytes bytes);       // F8: a .pkl or legacy .pth, and the data.pkl of a zipped .pth
void fuzz_safetensors(Bytes bytes);  // F9
void fuzz_npy(Bytes bytes);          // F10: .npy, .npz
void fuzz_checkpoint(Bytes bytes);   // F13: the metadata and names of Glia's own checkpoints
void fuzz_hdf5(Bytes bytes);         // Keras' .h5
void fuzz_rle(Bytes bytes);          // F1, F2: COCO's counts and string, Kaggle's pairs
void fuzz_csv(Bytes bytes);          // F3
void fuzz_coco(Bytes bytes);         // F4: data sets, their images alone, and results
void fuzz_config(Bytes bytes);       // F11: a recipe, and settings on top of it

}  // namespace glia::tests
