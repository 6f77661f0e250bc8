#include "models/unet_onnx.h"

#include <fmt/format.h>

#include <map>

#include "models/onnx_layers.h"

namespace glia {
namespace {

using Names = OnnxLayers::Names;

// What the five systems are built from besides.
class Builder : public OnnxLayers {
 public:
  Builder(const UnetOptions& options, const StateDict& state) : OnnxLayers(state), o(options) {}

  // `valid`: not padded; else to the size of its input.
  std::string conv(const std::string& x, const std::string& name, bool valid = false) {
    return valid ? OnnxLayers::conv(x, name, 1, 0, 0) : OnnxLayers::conv(x, name);
  }
  std::string conv_relu(const std::string& x, const std::string& name, bool valid = false) { return relu(conv(x, name, valid)); }
  std::string norm_relu(const std::string& x, const std::string& name) { return relu(norm(x, name, nn::NormKind::bn)); }
  std::string pool(const std::string& x) { return max_pool(x, 2, 2); }

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
