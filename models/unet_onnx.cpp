#include "models/unet_onnx.h"

#include <fmt/format.h>

#include <map>
#include <set>

namespace glia {
namespace {

using Names = std::vector<std::string>;

// What the five systems are built from. Values are named by the node that gives them.
class Builder {
 public:
  Builder(const UnetOptions& options, const StateDict& state) : o(options), state_(state) {}

  // Convolution `name`.weight, stride 1, padded to the size of its input ("same"; `valid`: not at all).
  std::string conv(const std::string& x, const std::string& name, bool valid = false) {
    const int64_t k = shape(name + ".weight")[2], before = valid ? 0 : (k - 1) / 2, after = valid ? 0 : k / 2;
    return graph.node("Conv", weights(x, name),
                      {{"kernel_shape", std::vector{k, k}}, {"pads", std::vector{before, before, after, after}}}, name);
  }
  std::string conv_relu(const std::string& x, const std::string& name, bool valid = false) {
    return graph.node("Relu", {conv(x, name, valid)});
  }
  std::string up_conv(const std::string& x, const std::string& name) {
    const std::vector<int64_t> two{2, 2};
    return graph.node("ConvTranspose", weights(x, name), {{"kernel_shape", two}, {"strides", two}}, name);
  }
  std::string norm_relu(const std::string& x, const std::string& name) {
    Names inputs{x};
    for (const char* part : {".weight", ".bias", ".running_mean", ".running_var"}) inputs.push_back(tensor(name + part));
    return graph.node("Relu", {graph.node("BatchNormalization", inputs, {{"epsilon", 1e-5}}, name)});
  }
  std::string pool(const std::string& x) {
    const std::vector<int64_t> two{2, 2};
    return graph.node("MaxPool", {x}, {{"kernel_shape", two}, {"strides", two}});
  }
  std::string concat(const Names& parts) { return graph.node("Concat", parts, {{"axis", int64_t{1}}}); }

  std::string nearest(const std::string& x) {
    return resize(x, {{"mode", "nearest"}, {"coordinate_transformation_mode", "asymmetric"}, {"nearest_mode", "floor"}});
  }
  std::string bilinear(const std::string& x) {
    return resize(x, {{"mode", "linear"}, {"coordinate_transformation_mode", "align_corners"}});
  }

  // Drops `margin` pixels at each edge.
  std::string crop(const std::string& x, int64_t margin) {
    const std::string id = std::to_string(margin);
    return graph.node("Slice", {x, integers("begin_" + id, {margin, margin}), integers("end_" + id, {-margin, -margin}),
                                integers("axes", {2, 3})});
  }

  // Zeros at the bottom and at the right up to the size of `like`.
  std::string pad_to(const std::string& x, const std::string& like) {
    const auto sides = [&](const std::string& of) { return graph.node("Shape", {of}, {{"start", int64_t{2}}}); };
    const std::string missing = graph.node("Sub", {sides(like), sides(x)});
    const std::string pads = graph.node("Concat", {integers("no_pads", {0, 0, 0, 0, 0, 0}), missing}, {{"axis", int64_t{0}}});
    return graph.node("Pad", {x, pads});
  }

  // The graph's output from the logits of all heads.
  void finish(const Names& heads) {
    const bool many = o.out_channels > 1, mean = heads.size() > 1;
    Names parts;
    for (const std::string& z : heads) {
      const OnnxAttributes channels{{"axis", int64_t{1}}};
      parts.push_back(
          graph.node(many ? "Softmax" : "Sigmoid", {z}, many ? channels : OnnxAttributes{}, mean ? "" : "probability"));
    }
    if (mean) graph.node("Mean", parts, {}, "probability");
    const std::string prefix = o.name == "unet_original" ? "output_" : "";
    graph.output("probability", {"batch", o.out_channels, prefix + "height", prefix + "width"});
  }

  const UnetOptions& o;
  OnnxGraph graph;

 private:
  const Tensor& at(const std::string& name) const {
    const auto found = state_.find(name);
    GLIA_CHECK(found != state_.end(), "ONNX: the network has no {}", name);
    return found->second;
  }
  const Shape& shape(const std::string& name) const { return at(name).shape(); }
  std::string tensor(const std::string& name) { return graph.constant(name, at(name).cast(DType::float32)); }

  Names weights(const std::string& x, const std::string& name) {
    Names inputs{x, tensor(name + ".weight")};  // KCRS, or CKRS of a transposed one: as in checkpoints
    if (state_.contains(name + ".bias")) inputs.push_back(tensor(name + ".bias"));
    return inputs;
  }
  std::string integers(const std::string& name, const std::vector<int64_t>& values) {
    if (known_.emplace(name).second) graph.constant(name, Tensor::from<int64_t>({static_cast<int64_t>(values.size())}, values));
    return name;
  }
  std::string resize(const std::string& x, const OnnxAttributes& how) {
    if (known_.emplace("twice").second) graph.constant("twice", Tensor::from<float>({4}, std::vector<float>{1, 1, 2, 2}));
    return graph.node("Resize", {x, "", "twice"}, how);
  }

  const StateDict& state_;
  std::set<std::string> known_;  // constants that several nodes share
};

// Layers of one kind are numbered in order of creation: "conv2d", "conv2d_1", ...
struct Numbered {
  std::string kind;
  int64_t count = 0;
  std::string next() {
    const int64_t i = count++;
    return i == 0 ? kind : fmt::format("{}_{}", kind, i);
  }
};

void keras(Builder& b, std::string x) {
  Numbered convs{"conv2d"};
  Names skips;
  for (int64_t i = 0; i <= b.o.depth; ++i) {
    if (i > 0) x = b.pool(x);
    for (int k = 0; k < 2; ++k) x = b.conv_relu(x, convs.next());
    skips.push_back(x);
  }
  for (int64_t i = b.o.depth - 1; i >= 0; --i) {
    x = b.conv_relu(b.nearest(x), convs.next());
    x = b.concat({skips[size_t(i)], x});
    for (int k = 0; k < 2; ++k) x = b.conv_relu(x, convs.next());
  }
  if (b.o.head == "keras") x = b.conv_relu(x, convs.next());
  b.finish({b.conv(x, convs.next())});
}

void dsb(Builder& b, std::string x) {
  Numbered convs{"conv2d"}, ups{"conv2d_transpose"};
  Names skips;
  const auto block = [&] {
    for (int k = 0; k < 2; ++k) x = b.graph.node("Elu", {b.conv(x, convs.next())}, {{"alpha", 1.0}});
  };
  for (int64_t i = 0; i <= b.o.depth; ++i) {
    if (i > 0) x = b.pool(x);
    block();
    skips.push_back(x);
  }
  for (int64_t i = b.o.depth - 1; i >= 0; --i) {
    x = b.concat({b.up_conv(x, ups.next()), skips[size_t(i)]});
    block();
  }
  b.finish({b.conv(x, convs.next())});
}

void original(Builder& b, std::string x) {
  Numbered convs{"conv"}, ups{"up"};
  Names skips;
  for (int64_t i = 0; i <= b.o.depth; ++i) {
    if (i > 0) x = b.pool(x);
    for (int k = 0; k < 2; ++k) x = b.conv_relu(x, convs.next(), true);
    skips.push_back(x);
  }
  // Pixels that a level lacks at each edge against its skip, in the skip's pixels: twice what the level below has lost per edge.
  // There each pair of convolutions costs 2.
  int64_t margin = 4;
  for (int64_t i = b.o.depth - 1; i >= 0; --i) {
    x = b.up_conv(x, ups.next());
    x = b.concat({b.crop(skips[size_t(i)], margin), x});
    for (int k = 0; k < 2; ++k) x = b.conv_relu(x, convs.next(), true);
    margin = 2 * (margin + 4);
  }
  b.finish({b.conv(x, convs.next(), true)});
}

void milesial(Builder& b, std::string x) {
  const auto block = [&](const std::string& path) {
    for (const int at : {0, 3}) x = b.norm_relu(b.conv(x, fmt::format("{}.{}", path, at)), fmt::format("{}.{}", path, at + 1));
  };
  Names skips;
  for (int64_t i = 0; i <= b.o.depth; ++i) {
    if (i > 0) x = b.pool(x);
    block(i == 0 ? "inc.double_conv" : fmt::format("down{}.maxpool_conv.1.double_conv", i));
    skips.push_back(x);
  }
  for (int64_t i = b.o.depth - 1; i >= 0; --i) {
    const std::string path = fmt::format("up{}", b.o.depth - i);
    x = b.o.bilinear ? b.bilinear(x) : b.up_conv(x, path + ".up");
    x = b.concat({skips[size_t(i)], b.pad_to(x, skips[size_t(i)])});
    block(path + ".conv.double_conv");
  }
  b.finish({b.conv(x, "outc.conv")});
}

void plus_plus(Builder& b, const std::string& image) {
  const UnetOptions& o = b.o;
  const int64_t last = o.prune == 0 ? o.depth : o.prune;
  std::vector<Names> rows(size_t(last + 1));  // of each level, its nodes by column
  for (int64_t j = 0; j <= last; ++j)
    for (int64_t i = 0; i <= last - j; ++i) {
      std::string x = image;
      if (j == 0 && i > 0) x = b.pool(rows[size_t(i - 1)][0]);
      if (j > 0) {
        const std::string& below = rows[size_t(i + 1)][size_t(j - 1)];
        Names parts = rows[size_t(i)];
        if (o.bilinear) {
          parts.push_back(b.bilinear(below));
        } else {
          parts.insert(parts.begin(), b.up_conv(below, fmt::format("up{}_{}", i, j)));
        }
        x = b.concat(parts);
      }
      const std::string path = fmt::format("conv{}_{}.", i, j);
      for (int k = 0; k < 2; ++k)
        x = o.bilinear ? b.norm_relu(b.conv(x, fmt::format("{}conv{}", path, k + 1)), fmt::format("{}bn{}", path, k + 1))
                       : b.conv_relu(x, path + std::to_string(k));
      rows[size_t(i)].push_back(x);
    }
  Names logits;
  const bool one = !o.deep_supervision || o.prune > 0;
  for (int64_t j = one ? last : 1; j <= last; ++j) {
    const std::string head = !o.bilinear ? fmt::format("head{}", j) : o.deep_supervision ? fmt::format("final{}", j) : "final";
    logits.push_back(b.conv(rows[0][size_t(j)], head));
  }
  b.finish(logits);
}

}  // namespace

OnnxGraph onnx_of_unet(const UnetOptions& options, const StateDict& state) {
  options.validate();
  Builder b(options, state);
  const std::string x = b.graph.input("image", {"batch", options.in_channels, "height", "width"});
  const std::map<std::string, void (*)(Builder&, std::string)> systems{
      {"unet_keras", keras},
      {"unet_dsb", dsb},
      {"unet_original", original},
      {"unet_milesial", milesial},
      {"unet_plus_plus", [](Builder& builder, std::string image) { plus_plus(builder, image); }}};
  systems.at(options.name)(b, x);
  return std::move(b.graph);
}

}  // namespace glia
