// Names of Caffe2's Detectron; see weights.h. The rules and their order are those of detectron2's c2_model_loading.py, without
// keypoints and DensePose.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "data/weights.h"
#include "tensor/error.h"

namespace glia {
namespace {

enum class Where { anywhere, begin, end };

struct Rule {
  Where where;
  std::string_view from, to;
};

constexpr Rule rules[] = {
    {Where::end, ".b", ".bias"},
    {Where::end, ".w", ".weight"},
    {Where::end, "bn.s", "norm.weight"},
    {Where::end, "bn.bias", "norm.bias"},
    {Where::anywhere, "bn.rm", "norm.running_mean"},
    {Where::end, "bn.running.mean", "norm.running_mean"},
    {Where::anywhere, "bn.riv", "norm.running_var"},
    {Where::end, "bn.running.var", "norm.running_var"},
    {Where::end, "bn.gamma", "norm.weight"},
    {Where::end, "bn.beta", "norm.bias"},
    {Where::end, "gn.s", "norm.weight"},
    {Where::end, "gn.bias", "norm.bias"},
    {Where::begin, "res.conv1.norm.", "conv1.norm."},
    {Where::begin, "conv1.", "stem.conv1."},
    {Where::anywhere, ".branch1.", ".shortcut."},
    {Where::anywhere, ".branch2a.", ".conv1."},
    {Where::anywhere, ".branch2b.", ".conv2."},
    {Where::anywhere, ".branch2c.", ".conv3."},
    {Where::anywhere, "conv.rpn.fpn2", "proposal_generator.rpn_head.conv"},
    {Where::anywhere, "conv.rpn", "proposal_generator.rpn_head.conv"},
    {Where::anywhere, "rpn.bbox.pred.fpn2", "proposal_generator.rpn_head.anchor_deltas"},
    {Where::anywhere, "rpn.bbox.pred", "proposal_generator.rpn_head.anchor_deltas"},
    {Where::anywhere, "rpn.cls.logits.fpn2", "proposal_generator.rpn_head.objectness_logits"},
    {Where::anywhere, "rpn.cls.logits", "proposal_generator.rpn_head.objectness_logits"},
    {Where::begin, "bbox.pred", "bbox_pred"},
    {Where::begin, "cls.score", "cls_score"},
    {Where::begin, "fc6.", "box_head.fc1."},
    {Where::begin, "fc7.", "box_head.fc2."},
    {Where::begin, "head.conv", "box_head.conv"},
};
constexpr Rule mask_rules[] = {
    {Where::anywhere, ".[mask].fcn", "mask_head.mask_fcn"},
    {Where::begin, ".mask.fcn", "mask_head.mask_fcn"},
    {Where::anywhere, "mask.fcn.logits", "mask_head.predictor"},
    {Where::anywhere, "conv5.mask", "mask_head.deconv"},
};

void apply_rule(const Rule& rule, std::string& name) {
  if (rule.where == Where::begin) {
    if (name.starts_with(rule.from)) name.replace(0, rule.from.size(), rule.to);
  } else if (rule.where == Where::end) {
    if (name.ends_with(rule.from)) name.replace(name.size() - rule.from.size(), rule.from.size(), rule.to);
  } else {
    for (size_t at = 0; (at = name.find(rule.from, at)) != name.npos; at += rule.to.size())
      name.replace(at, rule.from.size(), rule.to);
  }
}

// "fpn.inner.res2.2.sum.lateral.weight" -> "fpn_lateral2.weight", "fpn.res2.2.sum.weight" -> "fpn_output2.weight".
std::string name_of_fpn(const std::string& name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kinds{
      {{"fpn.inner.res", "fpn_lateral"}, {"fpn.res", "fpn_output"}}};
  for (const auto& [from, to] : kinds) {
    if (!name.starts_with(from)) continue;
    const std::string stage = name.substr(from.size(), name.find('.', from.size()) - from.size());
    const bool norm = ("." + name + ".").find(".norm.") != std::string::npos;
    return fmt::format("{}{}{}.{}", to, stage, norm ? ".norm" : "", name.substr(name.rfind('.') + 1));
  }
  return name;
}

// The first `count` rows, the background's, go.
void drop_rows(StoredTensor& t, int64_t count, const std::string& source) {
  if (t.shape.empty() || t.shape[0] < count)
    throw DataError("{}: \"{}\" has no {} rows of the background", source, t.name, count);
  t.shape[0] -= count;
  t.offset += static_cast<uint64_t>(count * t.strides[0]);
}

}  // namespace

std::string name_of_caffe2_blob(std::string name) {
  if (name == "pred_b") name = "linear_b";
  if (name == "pred_w") name = "linear_w";
  std::replace(name.begin(), name.end(), '_', '.');
  for (const Rule& rule : rules) apply_rule(rule, name);
  name = name_of_fpn(name);
  for (const Rule& rule : mask_rules) apply_rule(rule, name);
  return name;
}

void rename_caffe2_blobs(Weights& weights) {
  constexpr std::string_view blobs = "blobs/", momentum = "_momentum";
  const bool below = std::any_of(weights.tensors.begin(), weights.tensors.end(),
                                 [&](const StoredTensor& t) { return t.name.starts_with(blobs); });
  std::vector<StoredTensor> kept;
  for (const StoredTensor& t : weights.tensors) {
    if ((below && !t.name.starts_with(blobs)) || t.name.ends_with(momentum)) continue;
    kept.emplace_back(t).name = below ? t.name.substr(blobs.size()) : t.name;
  }
  // Blobs have neither dots nor folders; a plain dict of a model's arrays keeps its names.
  const auto plain = [](const StoredTensor& t) { return t.name.find_first_of("./") == std::string::npos; };
  const auto is_filter = [](const StoredTensor& t) { return t.name.ends_with("_w"); };
  if (!std::all_of(kept.begin(), kept.end(), plain) || std::none_of(kept.begin(), kept.end(), is_filter)) return;
  for (StoredTensor& t : kept) {
    t.name = name_of_caffe2_blob(t.name);
    if (t.name.starts_with("bbox_pred.")) drop_rows(t, 4, weights.source);
    if (t.name.starts_with("mask_head.predictor.")) drop_rows(t, 1, weights.source);
    t.first_row_last = t.name.starts_with("cls_score.") && !t.shape.empty() && t.shape[0] > 0;
  }
  std::sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  const auto twice = std::adjacent_find(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.name == b.name; });
  if (twice != kept.end()) throw DataError("{}: two blobs become \"{}\"", weights.source, twice->name);
  weights.tensors = std::move(kept);
  weights.match_by_suffix = true;
  weights.format = "Caffe2 (pickle)";
}

}  // namespace glia
