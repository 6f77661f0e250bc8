#include "models/unet_milesial.h"

#include <deque>
#include <optional>

#include "autograd/operators.h"
#include "nn/layers.h"

namespace glia {
namespace {

// (3x3 convolution without bias, batch norm, ReLU) twice; `path` is where PyTorch's nesting puts the sequence.
struct DoubleConv : Module {
  nn::Conv2d conv1, conv2;
  nn::BatchNorm2d norm1, norm2;

  DoubleConv(const std::string& path, int64_t in, int64_t middle, int64_t out)
      : conv1({.in = in, .out = middle, .pad = nn::same_pad(3), .bias = false}),
        conv2({.in = middle, .out = out, .pad = nn::same_pad(3), .bias = false}),
        norm1(middle),
        norm2(out) {
    add(path + "double_conv.0", conv1);
    add(path + "double_conv.1", norm1);
    add(path + "double_conv.3", conv2);
    add(path + "double_conv.4", norm2);
  }

  Tensor operator()(const Tensor& x) { return conv2(conv1(x, norm1, Activation::relu), norm2, Activation::relu); }
  Tensor of_concat(const Tensor& a, const Tensor& b) {
    return conv2(conv1.of_concat(a, b, norm1, Activation::relu), norm2, Activation::relu);
  }
};

struct Up : Module {
  std::optional<nn::ConvTranspose2d> up;  // absent: bilinear
  DoubleConv conv;

  Up(int64_t in, int64_t out, bool bilinear) : conv("", in, bilinear ? in / 2 : out, out) {
    if (!bilinear) {
      up.emplace(nn::ConvOptions{.in = in, .out = in / 2, .kernel = 2, .stride = 2});
      add("up", *up);
    }
    add("conv", conv);
  }

  Tensor operator()(const Tensor& below, const Tensor& skip) {
    const Tensor x = up ? (*up)(below) : upsample_bilinear(below, 2, true);
    const int64_t dy = skip.dim(1) - x.dim(1), dx = skip.dim(2) - x.dim(2);
    return conv.of_concat(skip, pad2d(x, dy / 2, dx / 2, dy - dy / 2, dx - dx / 2));
  }
};

class MilesialUnet : public Unet {
 public:
  explicit MilesialUnet(const UnetOptions& o) : smallest_(int64_t{1} << o.depth) {
    const int64_t factor = o.bilinear ? 2 : 1;
    // Channels at level i; the bilinear way up keeps them, so the deepest level has half.
    const auto width = [&](int64_t i) { return (o.base_channels << i) / (i == o.depth ? factor : 1); };
    for (int64_t i = 0; i <= o.depth; ++i) {
      down_.emplace_back(i == 0 ? "" : "maxpool_conv.1.", i == 0 ? o.in_channels : width(i - 1), width(i), width(i));
      add(i == 0 ? std::string("inc") : fmt::format("down{}", i), down_.back());
    }
    for (int64_t i = o.depth - 1; i >= 0; --i) {
      up_.emplace_back(o.base_channels << (i + 1), (o.base_channels << i) / (i > 0 ? factor : 1), o.bilinear);
      add(fmt::format("up{}", o.depth - i), up_.back());
    }
    last_.emplace(nn::ConvOptions{.in = o.base_channels, .out = o.out_channels, .kernel = 1});
    add("outc.conv", *last_);
  }

  Tensor operator()(const Tensor& image) override {
    if (image.dim(1) < smallest_ || image.dim(2) < smallest_)
      throw UsageError("unet_milesial: the input is {}x{}, want sides of at least {} (2^depth)", image.dim(1), image.dim(2),
                       smallest_);
    std::vector<Tensor> skips;
    for (DoubleConv& block : down_) skips.push_back(block(skips.empty() ? image : max_pool2d(skips.back(), 2)));
    Tensor x = skips.back();
    for (Up& block : up_) {
      skips.pop_back();
      x = block(x, skips.back());
    }
    return (*last_)(x);
  }

  int64_t divisor() const override { return 1; }

 private:
  int64_t smallest_;
  std::deque<DoubleConv> down_;
  std::deque<Up> up_;
  std::optional<nn::Conv2d> last_;
};

}  // namespace

std::unique_ptr<Unet> make_milesial_unet(const UnetOptions& options) { return std::make_unique<MilesialUnet>(options); }

}  // namespace glia
