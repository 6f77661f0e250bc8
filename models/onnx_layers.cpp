#include "models/onnx_layers.h"

namespace glia {
namespace {

constexpr int64_t groups = 32;  // of nn::NormKind::gn

std::vector<int64_t> both(int64_t side) { return {side, side}; }

}  // namespace

std::string OnnxLayers::conv(const std::string& x, const std::string& name, int64_t stride, int64_t before, int64_t after) {
  OnnxAttributes attributes{{"kernel_shape", both(at(name + ".weight").dim(2))},
                            {"pads", std::vector{before, before, after, after}}};
  if (stride != 1) attributes.emplace_back("strides", both(stride));
  return graph.node("Conv", weights(x, name), attributes, name);
}

std::string OnnxLayers::conv(const std::string& x, const std::string& name, int64_t stride) {
  const int64_t k = at(name + ".weight").dim(2);
  return conv(x, name, stride, (k - 1) / 2, k / 2);
}

std::string OnnxLayers::up_conv(const std::string& x, const std::string& name) {
  return graph.node("ConvTranspose", weights(x, name), {{"kernel_shape", both(2)}, {"strides", both(2)}}, name);
}

std::string OnnxLayers::norm(const std::string& x, const std::string& name, nn::NormKind kind, double eps) {
  if (kind == nn::NormKind::none) return x;
  if (kind == nn::NormKind::gn) return group_norm(x, name, eps);
  Names inputs{x};
  for (const char* part : {".weight", ".bias", ".running_mean", ".running_var"}) inputs.push_back(tensor(name + part));
  return graph.node("BatchNormalization", inputs, {{"epsilon", eps}}, name);
}

// Opset 17 has no group norm: each group as one channel of InstanceNormalization, then scale and shift by channel.
std::string OnnxLayers::group_norm(const std::string& x, const std::string& name, double eps) {
  const std::string as_groups = integers("as_groups", {0, groups, -1}), axes = integers("channel_axes", {1, 2});
  const std::string ones = floats("group_scale", std::vector<float>(groups, 1)),
                    zeros = floats("group_shift", std::vector<float>(groups, 0));
  const std::string normed =
      graph.node("InstanceNormalization", {graph.node("Reshape", {x, as_groups}), ones, zeros}, {{"epsilon", eps}});
  const std::string back = graph.node("Reshape", {normed, graph.node("Shape", {x})});
  const std::string scale = graph.node("Unsqueeze", {tensor(name + ".weight"), axes});
  const std::string shift = graph.node("Unsqueeze", {tensor(name + ".bias"), axes});
  return graph.node("Add", {graph.node("Mul", {back, scale}), shift}, {}, name);
}

std::string OnnxLayers::max_pool(const std::string& x, int64_t kernel, int64_t stride, int64_t pad, std::string name) {
  return graph.node("MaxPool", {x},
                    {{"kernel_shape", both(kernel)}, {"strides", both(stride)}, {"pads", std::vector{pad, pad, pad, pad}}},
                    std::move(name));
}

std::string OnnxLayers::nearest(const std::string& x) {
  return resize(x, {{"mode", "nearest"}, {"coordinate_transformation_mode", "asymmetric"}, {"nearest_mode", "floor"}});
}

std::string OnnxLayers::bilinear(const std::string& x) {
  return resize(x, {{"mode", "linear"}, {"coordinate_transformation_mode", "align_corners"}});
}

std::string OnnxLayers::crop(const std::string& x, int64_t margin) {
  const std::string id = std::to_string(margin);
  return graph.node("Slice", {x, integers("begin_" + id, {margin, margin}), integers("end_" + id, {-margin, -margin}),
                              integers("axes", {2, 3})});
}

std::string OnnxLayers::pad_to(const std::string& x, const std::string& like) {
  const auto sides = [&](const std::string& of) { return graph.node("Shape", {of}, {{"start", int64_t{2}}}); };
  const std::string missing = graph.node("Sub", {sides(like), sides(x)});
  const std::string pads = graph.node("Concat", {integers("no_pads", {0, 0, 0, 0, 0, 0}), missing}, {{"axis", int64_t{0}}});
  return graph.node("Pad", {x, pads});
}

const Tensor& OnnxLayers::at(const std::string& name) const {
  const auto found = state_.find(name);
  GLIA_CHECK(found != state_.end(), "ONNX: the network has no {}", name);
  return found->second;
}

OnnxLayers::Names OnnxLayers::weights(const std::string& x, const std::string& name) {
  Names inputs{x, tensor(name + ".weight")};  // KCRS, or CKRS of a transposed one: as in checkpoints
  if (state_.contains(name + ".bias")) inputs.push_back(tensor(name + ".bias"));
  return inputs;
}

std::string OnnxLayers::integers(const std::string& name, const std::vector<int64_t>& values) {
  if (known_.emplace(name).second) graph.constant(name, Tensor::from<int64_t>({static_cast<int64_t>(values.size())}, values));
  return name;
}

std::string OnnxLayers::floats(const std::string& name, const std::vector<float>& values) {
  if (known_.emplace(name).second) graph.constant(name, Tensor::from<float>({static_cast<int64_t>(values.size())}, values));
  return name;
}

std::string OnnxLayers::resize(const std::string& x, const OnnxAttributes& how) {
  return graph.node("Resize", {x, "", floats("twice", {1, 1, 2, 2})}, how);
}

}  // namespace glia
