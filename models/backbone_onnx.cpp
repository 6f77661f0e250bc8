#include "models/backbone_onnx.h"

#include <fmt/format.h>

#include <array>

#include "models/onnx_layers.h"
#include "models/resnet.h"

namespace glia {
namespace {

// nn::ConvNorm2d without its activation.
std::string conv_norm(OnnxLayers& g, const std::string& x, const std::string& name, nn::NormKind norm, double eps,
                      int64_t stride) {
  return g.norm(g.conv(x, name, stride), name + ".norm", norm, eps);
}

// Bottleneck; `shortcut`: of another width than its input, so by a convolution.
std::string bottleneck(OnnxLayers& g, const ResnetOptions& o, const std::string& x, const std::string& path, int64_t stride,
                       bool shortcut) {
  const auto conv = [&](const std::string& in, const char* name, int64_t by) {
    return conv_norm(g, in, path + name, o.norm, o.norm_eps, by);
  };
  const std::string a = g.relu(conv(x, ".conv1", o.stride_in_1x1 ? stride : 1));
  const std::string b = g.relu(conv(a, ".conv2", o.stride_in_1x1 ? 1 : stride));
  return g.relu(g.add(conv(b, ".conv3", 1), shortcut ? conv(x, ".shortcut", stride) : x));
}

// res2, ..., res5.
std::array<std::string, 4> resnet(OnnxLayers& g, const ResnetOptions& o, const std::string& image, const std::string& path) {
  std::string x = g.max_pool(g.relu(conv_norm(g, image, path + "stem.conv1", o.norm, o.norm_eps, 2)), 3, 2, 1);
  const std::array<int64_t, 4> blocks = resnet_blocks(o.depth);
  std::array<std::string, 4> stages;
  int64_t in = o.stem_channels;
  for (size_t s = 0; s < 4; ++s) {
    const int64_t out = o.res2_channels << s;
    for (int64_t b = 0; b < blocks[s]; ++b) {
      x = bottleneck(g, o, x, fmt::format("{}res{}.{}", path, s + 2, b), b == 0 && s > 0 ? 2 : 1, in != out);
      in = out;
    }
    stages[s] = x;
  }
  return stages;
}

}  // namespace

OnnxGraph onnx_of_backbone(const MaskRcnnOptions& options, const StateDict& state) {
  OnnxLayers g(state);
  const std::string path = "backbone.";
  const auto stages = resnet(g, options.resnet, g.graph.input("image", {"batch", options.resnet.in_channels, "height", "width"}),
                             path + "bottom_up.");
  const auto conv = [&](const std::string& x, const char* kind, size_t level) {
    return conv_norm(g, x, fmt::format("{}{}{}", path, kind, level), options.fpn_norm, 1e-5, 1);
  };
  std::array<std::string, 5> levels;
  std::string above;
  for (size_t i = 4; i-- > 0;) {
    const std::string lateral = conv(stages[i], "fpn_lateral", i + 2);
    above = above.empty() ? lateral : g.add(lateral, g.nearest(above));
    levels[i] = conv(above, "fpn_output", i + 2);
  }
  levels[4] = levels[3];
  for (size_t i = 0; i < levels.size(); ++i) {
    const std::string name = fmt::format("p{}", i + 2);
    if (i < 4) g.graph.node("Identity", {levels[i]}, {}, name);  // nodes have the names of their weights
    if (i == 4) g.max_pool(levels[i], 1, 2, 0, name);            // every second pixel of p5
    g.graph.output(name, {"batch", options.fpn_channels, name + "_height", name + "_width"});
  }
  return std::move(g.graph);
}

}  // namespace glia
