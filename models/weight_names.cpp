#include "models/weight_names.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/operators.h"
#include "models/weight_names_keras.h"

namespace glia {
namespace {

using Renaming = std::vector<std::pair<std::string, std::string>>;

std::string renamed(std::string name, const Renaming& list) {
  for (const auto& [from, to] : list)
    if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  return name;
}

// Text in torchvision's names and what stands for it here; each is applied once, in this order.
Renaming from_list(TorchvisionModel model) {
  Renaming list;
  for (int i = 1; i <= 4; ++i)
    list.emplace_back(fmt::format("backbone.body.layer{}.", i), fmt::format("backbone.bottom_up.res{}.", i + 1));
  list.emplace_back("backbone.body.", "backbone.bottom_up.stem.");
  for (int i = 1; i <= 3; ++i) list.emplace_back(fmt::format(".bn{}.", i), fmt::format(".conv{}.norm.", i));
  list.emplace_back(".downsample.0.", ".shortcut.");
  list.emplace_back(".downsample.1.", ".shortcut.norm.");
  // Sequences number their convolution 0 and its norm 1; old files have neither.
  const auto sequence = [&](const std::string& from, const std::string& to) {
    list.emplace_back(from + ".0.", to + ".");
    list.emplace_back(from + ".1.", to + ".norm.");
    list.emplace_back(from + ".", to + ".");
  };
  for (int i = 0; i < 4; ++i) {
    sequence(fmt::format("fpn.inner_blocks.{}", i), fmt::format("fpn_lateral{}", i + 2));
    sequence(fmt::format("fpn.layer_blocks.{}", i), fmt::format("fpn_output{}", i + 2));
    sequence(fmt::format("mask_head.{}", i), fmt::format("mask_head.mask_fcn{}", i + 1));
    sequence(fmt::format("box_head.{}", i), fmt::format("box_head.conv{}", i + 1));
  }
  list.emplace_back("box_head.5.", "box_head.fc1.");
  list.emplace_back("box_head.fc6.", "box_head.fc1.");
  list.emplace_back("box_head.fc7.", "box_head.fc2.");
  const std::string rpn = "proposal_generator.rpn_head.";
  for (int i = 0; i < 2; ++i)
    list.emplace_back(fmt::format("rpn.head.conv.{}.0.", i),
                      rpn + (model == TorchvisionModel::v1 ? "conv." : fmt::format("conv.conv{}.", i)));
  list.emplace_back("rpn.head.conv.", rpn + "conv.");
  list.emplace_back("rpn.head.cls_logits.", rpn + "objectness_logits.");
  list.emplace_back("rpn.head.bbox_pred.", rpn + "anchor_deltas.");
  list.emplace_back("mask_predictor.conv5_mask.", "mask_head.deconv.");
  list.emplace_back("mask_predictor.mask_fcn_logits.", "mask_head.predictor.");
  return list;
}

// The same the other way.
Renaming to_list(TorchvisionModel model) {
  Renaming list;
  list.emplace_back("backbone.bottom_up.stem.conv1.norm.", "backbone.body.bn1.");
  list.emplace_back("backbone.bottom_up.stem.", "backbone.body.");
  for (int i = 1; i <= 4; ++i)
    list.emplace_back(fmt::format("backbone.bottom_up.res{}.", i + 1), fmt::format("backbone.body.layer{}.", i));
  list.emplace_back(".shortcut.norm.", ".downsample.1.");
  list.emplace_back(".shortcut.", ".downsample.0.");
  const auto sequence = [&](const std::string& from, const std::string& to) {
    list.emplace_back(from + ".norm.", to + ".1.");
    list.emplace_back(from + ".", to + ".0.");
  };
  for (int i = 0; i < 4; ++i) {
    sequence(fmt::format("fpn_lateral{}", i + 2), fmt::format("fpn.inner_blocks.{}", i));
    sequence(fmt::format("fpn_output{}", i + 2), fmt::format("fpn.layer_blocks.{}", i));
    sequence(fmt::format("mask_head.mask_fcn{}", i + 1), fmt::format("mask_head.{}", i));
    sequence(fmt::format("box_head.conv{}", i + 1), fmt::format("box_head.{}", i));
  }
  for (int i = 1; i <= 3; ++i)
    list.emplace_back(fmt::format(".conv{}.norm.", i), fmt::format(".bn{}.", i));  // of the backbone alone now
  list.emplace_back("box_head.fc1.", model == TorchvisionModel::v1 ? "box_head.fc6." : "box_head.5.");
  list.emplace_back("box_head.fc2.", "box_head.fc7.");
  const std::string rpn = "proposal_generator.rpn_head.";
  for (int i = 0; i < 2; ++i) list.emplace_back(rpn + fmt::format("conv.conv{}.", i), fmt::format("rpn.head.conv.{}.0.", i));
  list.emplace_back(rpn + "conv.", "rpn.head.conv.0.0.");
  list.emplace_back(rpn + "objectness_logits.", "rpn.head.cls_logits.");
  list.emplace_back(rpn + "anchor_deltas.", "rpn.head.bbox_pred.");
  list.emplace_back("mask_head.deconv.", "mask_predictor.conv5_mask.");
  list.emplace_back("mask_head.predictor.", "mask_predictor.mask_fcn_logits.");
  return list;
}

bool about(const std::string& name, const char* layer) { return name.find(layer) != std::string::npos; }

// Leaves out the background, the first class there; it is the last of the scores here.
void move_background(StoredTensor& t) {
  if (t.shape.empty()) return;
  int64_t drop = 0;
  if (about(t.name, "box_predictor.cls_score.")) t.first_row_last = t.shape[0] > 0;
  if (about(t.name, "box_predictor.bbox_pred.") && t.shape[0] >= 4) drop = 4;
  if (about(t.name, "mask_head.predictor.") && t.shape[0] >= 1) drop = 1;
  t.shape[0] -= drop;
  t.offset += static_cast<uint64_t>(drop * t.strides[0]);
}

// Rows of zeros before those of t.
Tensor with_rows_before(const Tensor& t, int64_t rows) {
  std::vector<int64_t> sides(t.shape().begin(), t.shape().end());
  sides[0] = rows;
  return concat({Tensor::zeros(Shape(std::span<const int64_t>(sides)), t.dtype()), t}, 0);
}

bool any_begins(const Weights& weights, std::string_view prefix) {
  return std::any_of(weights.tensors.begin(), weights.tensors.end(), [&](const auto& t) { return t.name.starts_with(prefix); });
}

}  // namespace

std::string name_from_torchvision(std::string name, TorchvisionModel model) { return renamed(std::move(name), from_list(model)); }
std::string name_to_torchvision(std::string name, TorchvisionModel model) { return renamed(std::move(name), to_list(model)); }

Weights from_torchvision(const Weights& weights, TorchvisionModel model) {
  const Renaming list = from_list(model);
  Weights out = weights;
  for (StoredTensor& t : out.tensors) {
    t.name = renamed(t.name, list);
    move_background(t);
  }
  std::sort(out.tensors.begin(), out.tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return out;
}

StateDict from_torchvision(const StateDict& state, TorchvisionModel model) {
  const Weights weights = from_torchvision(weights_of(state, "torchvision's weights"), model);
  StateDict out;
  for (const StoredTensor& t : weights.tensors) out[t.name] = weights.load(t);
  return out;
}

StateDict to_torchvision(const StateDict& state) {
  const NoGrad no_grad;
  const bool v2 = state.contains("roi_heads.box_head.conv1.weight");
  const Renaming list = to_list(v2 ? TorchvisionModel::v2 : TorchvisionModel::v1);
  const auto scores = state.find("roi_heads.box_predictor.cls_score.weight");
  if (scores == state.end())
    throw DataError("no roi_heads.box_predictor.cls_score.weight: want the weights of a whole Mask R-CNN by detectron2's names");
  const int64_t classes = scores->second.dim(0) - 1;
  StateDict out;
  for (const auto& [name, tensor] : state) {
    Tensor t = tensor;
    const bool boxes = about(name, "box_predictor.bbox_pred."), masks = about(name, "mask_head.predictor.");
    if ((boxes && t.dim(0) != 4 * classes) || (masks && t.dim(0) != classes))
      throw DataError("{} has {} rows for {} classes: torchvision has boxes and masks of every class", name, t.dim(0), classes);
    if (about(name, "box_predictor.cls_score.")) t = concat({t.slice(classes, classes + 1), t.slice(0, classes)}, 0);
    if (boxes) t = with_rows_before(t, 4);
    if (masks) t = with_rows_before(t, 1);
    out[renamed(name, list)] = t;
  }
  return out;
}

Weights with_own_names(const Weights& weights) {
  if (weights.find("W2"))  // by which Cellpose 3 knows them too
    throw DataError(
        "{}: a model of Cellpose 4 (Cellpose-SAM), which is another network, a vision transformer; want a model of Cellpose 1 to "
        "3, such "
        "as cyto3, nuclei or livecell_cp3",
        weights.source);
  if (are_of_keras(weights)) return from_keras(weights);
  if (any_begins(weights, "backbone.body.")) {
    const bool v2 = any_begins(weights, "rpn.head.conv.1.");
    return from_torchvision(weights, v2 ? TorchvisionModel::v2 : TorchvisionModel::v1);
  }
  if (!weights.find("bn1.running_mean") || !weights.find("layer1.0.conv1.weight")) return weights;
  Weights backbone = weights;  // torchvision's ResNet
  std::erase_if(backbone.tensors, [](const auto& t) { return t.name.starts_with("fc."); });
  for (StoredTensor& t : backbone.tensors) t.name = "backbone.body." + t.name;
  return from_torchvision(backbone, TorchvisionModel::v1);
}

}  // namespace glia
