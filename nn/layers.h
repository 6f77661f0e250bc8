#pragma once
// Layers: modules that own the parameters of one op. Images are NHWC.
#include <optional>

#include "kernels/conv.h"
#include "kernels/norm.h"
#include "nn/module.h"

namespace glia::nn {

// How the weights of a layer start; PyTorch's rule for both unless said otherwise. Keras' default is glorot_uniform with zeros.
struct Initializers {
  Initializer weight = Initializer::torch_default;
  Initializer bias = Initializer::torch_default;
};
inline constexpr Initializers he_normal{Initializer::he_normal, Initializer::zeros};
inline constexpr Initializers glorot_uniform{Initializer::glorot_uniform, Initializer::zeros};
inline constexpr Initializers msra_fill{Initializer::kaiming_normal_fan_out, Initializer::zeros};  // Caffe2's names
inline constexpr Initializers xavier_fill{Initializer::kaiming_uniform_a1, Initializer::zeros};

struct ConvOptions {
  int64_t in = 1;
  int64_t out = 1;
  int64_t kernel = 3;
  int64_t stride = 1;
  std::array<int64_t, 4> pad{};  // top, left, bottom, right
  int64_t groups = 1;
  bool bias = true;
  Activation activation = Activation::none;
  Initializers init{};
};

// Keras' "same" for stride 1: an even kernel pads one more at the bottom and at the right.
constexpr std::array<int64_t, 4> same_pad(int64_t kernel) { return {(kernel - 1) / 2, (kernel - 1) / 2, kernel / 2, kernel / 2}; }

class BatchNorm2d;

// Parameters weight (out, kernel, kernel, in / groups), bias (out).
class Conv2d : public Module {
 public:
  explicit Conv2d(const ConvOptions& options);
  Tensor operator()(const Tensor& x, const Tensor& residual = {}) const;  // (N, H, W, in) -> (N, P, Q, out)
  Tensor of_concat(const Tensor& a, const Tensor& b) const;               // of concat({a, b}, 3), which is not made
  // activation(norm(the same)). Where the norm's numbers are constants, in evaluation without gradients, they are part of the convolution.
  Tensor operator()(const Tensor& x, BatchNorm2d& norm, Activation activation) const;
  Tensor of_concat(const Tensor& a, const Tensor& b, BatchNorm2d& norm, Activation activation) const;

 private:
  glia::Conv2d op_;
  Tensor weight_, bias_;
  mutable PackedFilter packed_, scaled_;  // scaled_: the filter times a norm's scale
};

// Nearest x2, then a 2x2 convolution that pads at the bottom and the right: the way up in Keras' UNets. Parameters as Conv2d's.
class UpsampleConv2d : public Module {
 public:
  explicit UpsampleConv2d(const ConvOptions& options);
  Tensor operator()(const Tensor& x) const;  // (N, H, W, in) -> (N, 2H, 2W, out)

 private:
  glia::Conv2d op_;
  Tensor weight_, bias_;
  mutable PackedFilter packed_;
};

// Parameters weight (in, kernel, kernel, out / groups), bias (out). `pad` crops the output.
class ConvTranspose2d : public Module {
 public:
  explicit ConvTranspose2d(const ConvOptions& options);
  Tensor operator()(const Tensor& x) const;

 private:
  glia::ConvTranspose2d op_;
  Tensor weight_, bias_;
};

// Parameters weight (out, in), bias (out).
class Linear : public Module {
 public:
  // `layout`: ParameterLayout::pooled where the inputs are the pixels of small images.
  Linear(int64_t in, int64_t out, bool bias = true, Initializers init = {}, ParameterLayout layout = {});
  Tensor operator()(const Tensor& x) const;  // (..., in) -> (..., out)

 private:
  Tensor weight_, bias_;
};

struct BatchNormOptions {
  double eps = 1e-5;
  double momentum = 0.1;  // weight of the new value
  bool unbiased = true;   // what running_var takes in: PyTorch n / (n - 1), Keras the biased variance
};
inline constexpr BatchNormOptions keras_batch_norm{.eps = 1e-3, .momentum = 0.01, .unbiased = false};

// Parameters weight, bias (C); buffers running_mean, running_var (C), num_batches_tracked. Training normalises by the batch and
// moves the running statistics; evaluation uses them.
class BatchNorm2d : public Module {
 public:
  explicit BatchNorm2d(int64_t channels, BatchNormOptions options = {});
  Tensor operator()(const Tensor& x, Activation activation = Activation::none);
  std::array<Tensor, 2> folded() const;  // scale and shift of evaluation, without gradient
  bool constant() const;                 // it is a scale and a shift now
  bool is_norm() const override { return true; }

 private:
  BatchNormOptions options_;
  Tensor weight_, bias_, running_mean_, running_var_, batches_;
};

// A batch norm whose numbers are constants: buffers weight, bias, running_mean, running_var (C). It is part of the convolution
// before it: y = x scale + shift.
class FrozenBatchNorm2d : public Module {
 public:
  explicit FrozenBatchNorm2d(int64_t channels, double eps = 1e-5);
  std::array<Tensor, 2> folded() const;

 private:
  double eps_;
  Tensor weight_, bias_, running_mean_, running_var_;
};

// Parameters weight, bias (C).
class GroupNorm : public Module {
 public:
  GroupNorm(int64_t groups, int64_t channels, double eps = 1e-5);
  Tensor operator()(const Tensor& x) const;
  bool is_norm() const override { return true; }

 private:
  glia::GroupNorm op_;
  Tensor weight_, bias_;
};

enum class NormKind { none, frozen_bn, bn, gn };
NormKind parse_norm(std::string_view name);  // "none" or "", "frozen_bn", "bn", "gn"; UsageError for an unknown name

// activation(norm(conv(x)) + residual), the activation being options.activation: parameters as Conv2d's, child norm
// (detectron2's Conv2d). Constant norms go into the convolution's epilogue. gn has 32 groups.
class ConvNorm2d : public Module {
 public:
  ConvNorm2d(const ConvOptions& options, NormKind norm, double eps = 1e-5);
  Tensor operator()(const Tensor& x, const Tensor& residual = {});

 private:
  glia::Conv2d op_;
  Tensor weight_, bias_;
  mutable PackedFilter packed_;
  std::optional<FrozenBatchNorm2d> frozen_;
  std::optional<BatchNorm2d> batch_;
  std::optional<GroupNorm> group_;
};

// Nothing in evaluation. Draws by (seed, name, step) of Module::set_random, so use one object per place.
class Dropout : public Module {
 public:
  explicit Dropout(double p) : p_(p) {}
  Tensor operator()(const Tensor& x) const;

 private:
  double p_;
};

}  // namespace glia::nn
