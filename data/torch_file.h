#pragma once
// PyTorch's files: the zip container (torch.save since 1.6) and the stream of pickles before it. Format: torch/serialization.py.
#include "data/pickle.h"
#include "data/weights.h"
#include "data/zip.h"

namespace glia {

// The archive holds NAME/data.pkl. DataError also for TorchScript.
bool is_torch_zip(const ZipFile& zip);
void read_torch_zip(std::shared_ptr<const ZipFile> zip, Weights& weights);

// `first` is the pickle at the file's beginning.
bool is_torch_legacy(const Pickle& first);
void read_torch_legacy(std::span<const std::byte> bytes, const Pickle& first, Weights& weights);

// A zip that torch.load(path, weights_only=True) reads as an OrderedDict of dense tensors. Same content, same bytes.
void write_torch_zip(const std::filesystem::path& path, const Weights& weights);

}  // namespace glia
