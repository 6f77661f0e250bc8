#pragma once
// Training that starts from the weights of another training, of any framework (data/weights.h): what is taken, and what is not.
#include <string>
#include <vector>

#include "data/weights.h"
#include "nn/module.h"
#include "train/config.h"

namespace glia {

// What became of every tensor of the model, and of the file's that it has no place for.
struct TransferReport {
  std::string source, format;
  std::vector<std::string> matched;        // taken from the file
  std::vector<std::string> reinitialized;  // last layers for other classes: NAME (file's shape against the model's)
  std::vector<std::string> missing;        // not in the file
  std::vector<std::string> ignored;        // matched by init.ignore
  std::vector<std::string> unused;         // names of the file

  std::string table() const;  // many lines, without a line's end after the last
};

// Copies what `weights` (model_weights of a file) holds into the model, by name; where the file's names may lack a prefix
// (match_by_suffix), the longest name of the file that is the end of the model's after a dot, as detectron2's heuristics do. What
// keeps its fresh values: tensors that the file lacks or init.ignore matches (* stands for any text), and tensors that differ in the
// number of rows alone, as the last layers do for another number of classes.
// DataError: no name fits, a tensor differs in another way (another width or depth), one tensor of the file fits two of the model, a
// tensor holds numbers that are not finite. UsageError: a pattern of init.ignore that matches nothing.
TransferReport transfer_weights(Module& model, const Weights& weights, const InitConfig& init);

}  // namespace glia
