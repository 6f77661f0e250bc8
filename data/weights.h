#pragma once
// Files of weights of any framework, read alike: safetensors, PyTorch's .pth and .pt (both containers), detectron2's and Caffe2's
// .pkl, NumPy's .npy and .npz, Keras' .h5 and .weights.h5. The format is recognised by the content, whatever the file is called.
// Nothing in a file can run, sizes are checked before memory is taken, and tensors are read one by one when they are asked for.
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "data/stored_tensor.h"

namespace glia {

using Scalar = std::variant<bool, int64_t, double, std::string>;

struct Weights {
  std::string source;                             // the path, for messages
  std::string format;                             // for people: "PyTorch (zip)", ...
  std::vector<StoredTensor> tensors;              // sorted by name; names of nested dicts and lists are joined by "/"
  std::map<std::string, Scalar> scalars;          // numbers and texts beside the tensors, under such names; safetensors' metadata
  bool match_by_suffix = false;                   // names may lack a prefix of the model's: detectron2's matching_heuristics
  bool mapped = false;                            // the bytes lie in a mapped file, whose pages are given back once they are read
  std::vector<std::shared_ptr<const void>> keep;  // what the tensors' bytes lie in

  const StoredTensor* find(std::string_view name) const;  // null where there is none
  Tensor load(const StoredTensor& tensor) const { return tensor.tensor(source); }
};

// DataError (naming the file) for anything damaged, unknown, hostile or out of the format; IoError where it cannot be read.
Weights read_weights(const std::filesystem::path& path);
// The same over the bytes of a file, which must outlive the result; `source` stands in messages. `mapped`: they are a MappedFile's.
Weights parse_weights(std::span<const std::byte> bytes, const std::string& source, bool mapped = false);

// By its first bytes a file of weights of another kind than safetensors, such as PyTorch's, whatever it is called. False where it cannot
// be read.
bool is_foreign_weights(const std::filesystem::path& path);

// The tensors that are a model's, with the names that it has: of a training checkpoint what stands under "model", "model_state",
// "state_dict" or "model_weights", without optimizers; of a checkpoint of Glia the averaged weights where there are any. The rest
// is left out.
Weights model_weights(const Weights& weights);

// The same view of tensors in memory (copied to the host where they are on a device).
Weights weights_of(const std::map<std::string, Tensor>& tensors, std::string source);

enum class WeightsFormat {
  safetensors,
  torch,   // a zip that torch.load(weights_only=True) reads
  pickle,  // what detectron2's DetectionCheckpointer reads: {"model": {name: NumPy array}, "__author__": "Glia"}
  npz,     // stored, not deflated
  hdf5     // groups by the names' "/": with names of Keras (to_keras) its .weights.h5
};

// Through a temporary file; one tensor at a time is in memory. Of the scalars only texts go into safetensors' metadata, none
// elsewhere. bfloat16, which NumPy lacks, becomes float32 in pickle, npz and hdf5. DataError for a type that the format cannot hold;
// IoError.
void write_weights(const std::filesystem::path& path, const Weights& weights, WeightsFormat format);

// Turns blob names of Caffe2's Detectron (and its ImageNet backbones, MSRA/R-50.pkl) to those of detectron2, and their rows: the
// background's row of cls_score goes last, those of bbox_pred and the mask logits go. As detectron2's c2_model_loading.py does.
std::string name_of_caffe2_blob(std::string name);
void rename_caffe2_blobs(Weights& weights);

}  // namespace glia
