#pragma once
// The part of glia convert that turns files of weights into each other, and checkpoints into ONNX models.
#include <string>
#include <vector>

namespace glia {

struct WeightsConversion {
  std::string from, to;
  std::string format;  // safetensors, pth, pkl, npz, h5 or onnx; "": by the ending of `to`
  std::string names;   // of Mask R-CNN's tensors: detectron2 or torchvision; "": as they are
  std::string recipe;  // makes a checkpoint that `predict` takes; "": weights alone
  std::vector<std::string> settings;
  bool quiet = false;
};

// Whether this asks for weights: by the format, the ending of `to`, or a recipe.
bool is_weights_conversion(const WeightsConversion& conversion);

// Writes the model's part of the file (model_weights); of a checkpoint its network where `to` is an ONNX file. UsageError for
// unknown words; DataError where a recipe's network would keep a tensor without weights of the file, or there is no export to
// ONNX, and as read_weights and write_weights.
void convert_weights(const WeightsConversion& conversion);

}  // namespace glia
