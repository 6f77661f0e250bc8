#include "models/unet_plus_plus.h"

#include <deque>
#include <map>
#include <optional>

#include "autograd/operators.h"
#include "nn/layers.h"

namespace glia {
namespace {

// The two convolutions of a node.
class Block : public Module {
 public:
  Block(int64_t in, int64_t out, bool norm, bool dropout) : first_(conv(in, out, norm)), second_(conv(out, out, norm)) {
    add(norm ? "conv1" : "0", first_);
    if (norm) add("bn1", norm1_.emplace(out));
    add(norm ? "conv2" : "1", second_);
    if (norm) add("bn2", norm2_.emplace(out));
    if (norm || !dropout) return;
    add("dropout1", dropout1_.emplace(0.5));
    add("dropout2", dropout2_.emplace(0.5));
  }

  Tensor operator()(const Tensor& x) {
    if (norm1_) return second_(first_(x, *norm1_, Activation::relu), *norm2_, Activation::relu);
    if (!dropout1_) return second_(first_(x));
    return (*dropout2_)(second_((*dropout1_)(first_(x))));
  }

 private:
  static nn::ConvOptions conv(int64_t in, int64_t out, bool norm) {
    nn::ConvOptions options{.in = in, .out = out, .pad = nn::same_pad(3)};
    if (norm) return options;
    options.activation = Activation::relu;
    options.init = nn::he_normal;
    return options;
  }

  nn::Conv2d first_, second_;
  std::optional<nn::BatchNorm2d> norm1_, norm2_;
  std::optional<nn::Dropout> dropout1_, dropout2_;
};

class UnetPlusPlus : public Unet {
 public:
  explicit UnetPlusPlus(const UnetOptions& o)
      : depth_(o.depth), prune_(o.prune), bilinear_(o.bilinear), deep_supervision_(o.deep_supervision) {
    const auto width = [&](int64_t level) { return o.base_channels << level; };
    for (int64_t j = 0; j <= depth_; ++j) {
      for (int64_t i = 0; i <= depth_ - j; ++i) {
        int64_t in = i == 0 ? o.in_channels : width(i - 1);
        if (j > 0) {
          if (!bilinear_) {
            const nn::ConvOptions up{.in = width(i + 1), .out = width(i), .kernel = 2, .stride = 2, .init = nn::glorot_uniform};
            add(fmt::format("up{}_{}", i, j), ups_.try_emplace({i, j}, up).first->second);
          }
          in = width(i) * j + (bilinear_ ? width(i + 1) : width(i));
        }
        add(fmt::format("conv{}_{}", i, j), nodes_.try_emplace({i, j}, in, width(i), bilinear_, o.dropout).first->second);
      }
    }
    for (int64_t j = deep_supervision_ ? 1 : depth_; j <= depth_; ++j) {
      const nn::ConvOptions head{
          .in = width(0), .out = o.out_channels, .kernel = 1, .init = bilinear_ ? nn::Initializers{} : nn::he_normal};
      const std::string name = !bilinear_ ? fmt::format("head{}", j) : deep_supervision_ ? fmt::format("final{}", j) : "final";
      add(name, heads_.try_emplace(j, head).first->second);
    }
  }

  std::vector<Tensor> heads(const Tensor& image) override {
    check_sides("unet_plus_plus", image, divisor());
    const int64_t last = training() || prune_ == 0 ? depth_ : prune_;
    std::vector<std::vector<Tensor>> rows(size_t(last + 1));  // of each level, its nodes by column
    for (int64_t j = 0; j <= last; ++j)
      for (int64_t i = 0; i <= last - j; ++i) rows[size_t(i)].push_back(nodes_.at({i, j})(node_input(image, rows, i, j)));
    std::vector<Tensor> logits;
    const bool one = !deep_supervision_ || (!training() && prune_ > 0);
    for (int64_t j = one ? last : 1; j <= last; ++j) logits.push_back(heads_.at(j)(rows[0][size_t(j)]));
    return logits;
  }

  Tensor operator()(const Tensor& image) override { return heads(image).back(); }
  int64_t divisor() const override { return int64_t{1} << depth_; }

 private:
  Tensor node_input(const Tensor& image, const std::vector<std::vector<Tensor>>& rows, int64_t i, int64_t j) {
    if (j == 0) return i == 0 ? image : max_pool2d(rows[size_t(i - 1)][0], 2);
    const Tensor& below = rows[size_t(i + 1)][size_t(j - 1)];
    std::vector<Tensor> parts = rows[size_t(i)];
    if (bilinear_) {
      parts.push_back(upsample_bilinear(below, 2, true));
    } else {
      parts.insert(parts.begin(), ups_.at({i, j})(below));
    }
    return concat(parts, 3);
  }

  using Place = std::pair<int64_t, int64_t>;  // level, column
  int64_t depth_, prune_;
  bool bilinear_, deep_supervision_;
  std::map<Place, Block> nodes_;
  std::map<Place, nn::ConvTranspose2d> ups_;
  std::map<int64_t, nn::Conv2d> heads_;  // by column
};

}  // namespace

std::unique_ptr<Unet> make_unet_plus_plus(const UnetOptions& options) { return std::make_unique<UnetPlusPlus>(options); }

}  // namespace glia
