#include "models/unet.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "autograd/operators.h"
#include "models/unet_milesial.h"
#include "models/unet_plus_plus.h"
#include "nn/layers.h"

namespace glia {
namespace {

// "conv2d", "conv2d_1", "conv2d_2", ...
std::string numbered(const std::string& kind, size_t i) { return i == 0 ? kind : kind + "_" + std::to_string(i); }

// Layers of one kind in order of creation. A deque, as layers don't move.
template <class Layer>
struct Row {
  std::deque<Layer> layers;
  Layer& operator[](int64_t i) { return layers[static_cast<size_t>(i)]; }
};

class KerasUnet : public Unet {
 public:
  explicit KerasUnet(const UnetOptions& o) : depth_(o.depth), dropped_(o.dropout) {
    const auto conv = [&](auto& row, int64_t in, int64_t out, int64_t kernel, nn::Initializers init = nn::he_normal,
                          bool relu = true) {
      row.layers.emplace_back(nn::ConvOptions{.in = in,
                                              .out = out,
                                              .kernel = kernel,
                                              .pad = nn::same_pad(kernel),
                                              .activation = relu ? Activation::relu : Activation::none,
                                              .init = init});
      add(numbered("conv2d", count_++), row.layers.back());
    };
    const auto width = [&](int64_t level) { return o.base_channels << level; };
    for (int64_t i = 0; i <= depth_; ++i) {
      conv(convs_, i == 0 ? o.in_channels : width(i - 1), width(i), 3);
      conv(convs_, width(i), width(i), 3);
    }
    for (int64_t i = depth_ - 1; i >= 0; --i) {
      conv(ups_, width(i + 1), width(i), 2);
      conv(convs_, 2 * width(i), width(i), 3);
      conv(convs_, width(i), width(i), 3);
    }
    if (o.head == "keras") conv(head_, width(0), 2, 3);
    conv(head_, o.head == "keras" ? 2 : width(0), o.out_channels, 1, nn::glorot_uniform, false);
    add("dropout", dropout_);
    add("dropout_1", dropout_deepest_);
  }

  Tensor operator()(const Tensor& image) override {
    check_sides("unet_keras", image, divisor());
    std::vector<Tensor> skips;
    Tensor x = image;
    for (int64_t i = 0; i <= depth_; ++i) {
      x = recompute(down(i), {std::move(x)});
      if (dropped_ && i == depth_ - 1) x = dropout_(x);
      if (dropped_ && i == depth_) x = dropout_deepest_(x);
      if (i < depth_) skips.push_back(x);
    }
    for (int64_t k = 0; k < depth_; ++k) {
      std::vector<Tensor> inputs{std::move(skips.back()), std::move(x)};
      skips.pop_back();
      x = recompute(up(k), std::move(inputs));
    }
    for (nn::Conv2d& layer : head_.layers) x = layer(x);
    return x;
  }

  int64_t divisor() const override { return int64_t{1} << depth_; }

 private:
  // {x of the level above, or the image} -> level i
  Recomputed down(int64_t i) {
    return [this, i](std::vector<Tensor> in) {
      if (i > 0) in[0] = max_pool2d(in[0], 2);
      in[0] = convs_[2 * i](in[0]);
      return convs_[2 * i + 1](in[0]);
    };
  }

  // {skip, x of the level below} -> step k of the way up
  Recomputed up(int64_t k) {
    return [this, k](std::vector<Tensor> in) {
      in[0] = convs_[2 * (depth_ + 1 + k)].of_concat(in[0], ups_[k](in[1]));
      return convs_[2 * (depth_ + 1 + k) + 1](in[0]);
    };
  }

  int64_t depth_;
  bool dropped_;
  size_t count_ = 0;
  Row<nn::Conv2d> convs_, head_;
  Row<nn::UpsampleConv2d> ups_;
  nn::Dropout dropout_{0.5}, dropout_deepest_{0.5};
};

// unet_dsb and unet_original: pairs of convolutions, transposed 2x2 up without activation, a 1x1 convolution at the end.
class TransposedUnet : public Unet {
 protected:
  TransposedUnet(const UnetOptions& o, const char* conv_name, const char* up_name, bool padded, Activation activation,
                 nn::Initializers up_init, nn::Initializers last_init)
      : depth_(o.depth) {
    const auto width = [&](int64_t level) { return o.base_channels << level; };
    const auto conv = [&](int64_t in, int64_t out) {
      convs_.layers.emplace_back(nn::ConvOptions{
          .in = in, .out = out, .pad = nn::same_pad(padded ? 3 : 1), .activation = activation, .init = nn::he_normal});
      add(numbered(conv_name, convs_.layers.size() - 1), convs_.layers.back());
    };
    for (int64_t i = 0; i <= depth_; ++i) {
      conv(i == 0 ? o.in_channels : width(i - 1), width(i));
      conv(width(i), width(i));
    }
    for (int64_t i = depth_ - 1; i >= 0; --i) {
      ups_.layers.emplace_back(nn::ConvOptions{.in = width(i + 1), .out = width(i), .kernel = 2, .stride = 2, .init = up_init});
      add(numbered(up_name, ups_.layers.size() - 1), ups_.layers.back());
      conv(2 * width(i), width(i));
      conv(width(i), width(i));
    }
    last_.layers.emplace_back(nn::ConvOptions{.in = width(0), .out = o.out_channels, .kernel = 1, .init = last_init});
    add(numbered(conv_name, convs_.layers.size()), last_.layers.back());
  }

  int64_t depth_;
  Row<nn::Conv2d> convs_, last_;
  Row<nn::ConvTranspose2d> ups_;
};

class DsbUnet : public TransposedUnet {
 public:
  explicit DsbUnet(const UnetOptions& o)
      : TransposedUnet(o, "conv2d", "conv2d_transpose", true, Activation::none, nn::glorot_uniform, nn::glorot_uniform) {
    if (!o.dropout) return;
    for (int64_t pair = 0; pair <= 2 * depth_; ++pair) {
      const int64_t level = pair <= depth_ ? pair : 2 * depth_ - pair;
      dropouts_.layers.emplace_back(std::min(0.1 * double(1 + level / 2), 0.3));
      add(numbered("dropout", size_t(pair)), dropouts_.layers.back());
    }
  }

  Tensor operator()(const Tensor& image) override {
    check_sides("unet_dsb", image, divisor());
    std::vector<Tensor> skips;
    Tensor x = image;
    for (int64_t i = 0; i <= depth_; ++i) {
      if (i > 0) x = max_pool2d(x, 2);
      x = rest_of_block(convs_[2 * i](x), i);
      if (i < depth_) skips.push_back(x);
    }
    for (int64_t k = 0; k < depth_; ++k) {
      x = convs_[2 * (depth_ + 1 + k)].of_concat(ups_[k](x), skips.back());
      skips.pop_back();
      x = rest_of_block(x, depth_ + 1 + k);
    }
    return last_[0](x);
  }

  int64_t divisor() const override { return int64_t{1} << depth_; }

 private:
  Tensor rest_of_block(Tensor x, int64_t pair) {  // behind its first convolution
    x = elu(x);
    if (!dropouts_.layers.empty()) x = dropouts_[pair](x);
    return elu(convs_[2 * pair + 1](x));
  }

  Row<nn::Dropout> dropouts_;
};

class OriginalUnet : public TransposedUnet {
 public:
  explicit OriginalUnet(const UnetOptions& o)
      : TransposedUnet(o, "conv", "up", false, Activation::relu, nn::he_normal, nn::he_normal) {}

  Tensor operator()(const Tensor& image) override {
    check_size(image);
    std::vector<Tensor> skips;
    Tensor x = image;
    for (int64_t i = 0; i <= depth_; ++i) {
      if (i > 0) x = max_pool2d(x, 2);
      x = convs_[2 * i + 1](convs_[2 * i](x));
      if (i < depth_) skips.push_back(x);
    }
    for (int64_t k = 0; k < depth_; ++k) {
      x = ups_[k](x);
      const Tensor skip = skips.back();
      skips.pop_back();
      x = convs_[2 * (depth_ + 1 + k)].of_concat(apply(centre_crop(skip.shape(), x.dim(1), x.dim(2)), skip), x);
      x = convs_[2 * (depth_ + 1 + k) + 1](x);
    }
    return last_[0](x);
  }

  int64_t divisor() const override { return int64_t{1} << depth_; }

  // Each pair of convolutions costs 2 pixels per edge at its level, on the way down and up.
  int64_t margin() const override { return 2 * (3 * (int64_t{1} << depth_) - 2); }

 private:
  // Every pooling must see an even size, and every level must keep a pixel.
  void check_size(const Tensor& x) const {
    for (const int64_t side : {x.dim(1), x.dim(2)}) {
      int64_t s = side;
      bool fits = s > 2 * margin();
      for (int64_t i = 0; i < depth_ && fits; ++i) {
        s -= 4;
        fits = s > 0 && s % 2 == 0;
        s /= 2;
      }
      if (!fits)
        throw UsageError(
            "unet_original: a side of {} does not fit; at depth 4 sides are 16 m + 60 with m >= 8: 188, 204, ... 572", side);
    }
  }
};

}  // namespace

void check_sides(const char* name, const Tensor& x, int64_t divisor) {
  if (x.dim(1) % divisor != 0 || x.dim(2) % divisor != 0 || x.dim(1) == 0 || x.dim(2) == 0)
    throw UsageError("{}: the input is {}x{}, want sides that are multiples of {} (2^depth)", name, x.dim(1), x.dim(2), divisor);
}

const std::vector<std::string>& unet_names() {
  static const std::vector<std::string> names{"unet_original", "unet_keras", "unet_dsb", "unet_milesial", "unet_plus_plus"};
  return names;
}

void UnetOptions::validate() const {
  const auto& known = unet_names();
  if (std::find(known.begin(), known.end(), name) == known.end())
    throw UsageError("model.name: \"{}\" is no UNet; known are {}", name, fmt::join(known, ", "));
  const auto need = [](const char* key, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high) throw UsageError("{}: {} is out of range, want {} to {}", key, value, low, high);
  };
  need("data.channels", in_channels, 1, 4096);
  need("model.num_classes", out_channels, 1, 4096);
  need("model.base_channels", base_channels, 1, 4096);
  need("model.depth", depth, 1, 8);
  if (head != "direct" && head != "keras") throw UsageError("model.head: \"{}\", want direct or keras", head);
  need("model.prune", prune, 0, depth);
  if (prune != 0 && prune != depth && !deep_supervision)
    throw UsageError("model.prune: {} wants model.deep_supervision, else the one head is that of column {}", prune, depth);
  if (name == "unet_milesial" && bilinear && base_channels % 2 != 0)
    throw UsageError("model.base_channels: {} must be even for the bilinear way up", base_channels);
}

std::unique_ptr<Unet> make_unet(const UnetOptions& options) {
  options.validate();
  if (options.name == "unet_keras") return std::make_unique<KerasUnet>(options);
  if (options.name == "unet_dsb") return std::make_unique<DsbUnet>(options);
  if (options.name == "unet_original") return std::make_unique<OriginalUnet>(options);
  if (options.name == "unet_plus_plus") return make_unet_plus_plus(options);
  return make_milesial_unet(options);
}

}  // namespace glia
