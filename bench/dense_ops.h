#pragma once
// The ops that are bound by memory, as work ready to be timed on any device: what bench_dense.cpp registers for the CPU, and
// device_table.cpp runs on a GPU.
#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "kernels/binary.h"
#include "kernels/dropout.h"
#include "kernels/loss.h"
#include "kernels/loss_region.h"
#include "kernels/norm.h"
#include "kernels/pool.h"
#include "kernels/resize.h"
#include "kernels/softmax.h"
#include "kernels/unary.h"
#include "tensor/random.h"

namespace glia::bench {

// One call, ready to run any number of times, and what it moves: every tensor that it reads or writes, once. So an op that has to read
// one twice, or whose stores first fetch the line, stays below the speed of a copy.
struct Work {
  double bytes = 0;
  std::function<void()> run;
};

// Uniform in [-1, 1); a million of them over and over where there are more.
inline Tensor random_tensor(const Shape& shape, Device device = {}, uint64_t stream = 0) {
  Tensor t(shape);
  constexpr int64_t period = (1 << 20) + 7;
  float* const data = t.data<float>();
  const Philox random(1, stream + uint64_t(shape.size()));
  for (int64_t i = 0; i < std::min(period, t.size()); ++i) data[i] = float(random.words(uint64_t(i))[0]) * 0x1p-31f - 1;
  for (int64_t i = period; i < t.size(); i += period)
    std::memcpy(data + i, data, size_t(std::min(period, t.size() - i)) * sizeof(float));
  return t.to(device);
}

template <size_t N>
std::array<TensorSpec, N> specs_of(const std::array<TensorSpec, N>& specs) {
  return specs;
}
inline std::array<TensorSpec, 1> specs_of(const TensorSpec& spec) { return {spec}; }

template <class Op, size_t N>
auto output_specs(const Op& op, const std::array<Tensor, N>& in) {
  return specs_of(std::apply([&](const auto&... x) { return op.infer(x...); }, in));
}

// The tensors of one op: inputs of these shapes (absent where a shape is empty of axes), outputs, gradients.
template <class Op, size_t N>
struct DenseTensors {
  using Specs = decltype(output_specs(std::declval<const Op&>(), std::declval<const std::array<Tensor, N>&>()));
  static constexpr size_t outputs = std::tuple_size_v<Specs>;
  Op op;
  std::array<Tensor, N> in, gradients;
  std::array<Tensor, outputs> out;
  Tensor dy;

  DenseTensors(const Op& op_, const std::array<Shape, N>& shapes, Device device) : op(op_) {
    for (size_t i = 0; i < N; ++i)
      if (shapes[i].rank()) in[i] = random_tensor(shapes[i], device, i);
    const Specs specs = output_specs(op, in);
    for (size_t i = 0; i < outputs; ++i) out[i] = Tensor(specs[i].shape, specs[i].dtype, device);
  }
  void forward(typename Op::Forward* body) {
    std::apply([&](auto&... t) { body(op, t...); }, std::tuple_cat(refs<const Tensor>(in), refs<Tensor>(out)));
  }
  void backward(typename Op::Backward* body) {
    std::array<Tensor*, N> wanted{};
    for (size_t i = 0; i < N; ++i) wanted[i] = gradients[i] ? &gradients[i] : nullptr;
    std::apply([&](const auto&... t) { body(op, t...); },
               std::tuple_cat(refs<const Tensor>(in), refs<const Tensor>(out), std::tie(std::as_const(dy)), wanted));
  }

 private:
  template <class T, size_t M>
  static auto refs(std::array<Tensor, M>& tensors) {
    return std::apply([](auto&... t) { return std::tuple<std::conditional_t<true, T, decltype(t)>&...>(t...); }, tensors);
  }
};

template <size_t N>
double bytes_of(const std::array<Tensor, N>& tensors) {
  double sum = 0;
  for (const Tensor& t : tensors) sum += t ? double(t.bytes()) : 0;
  return sum;
}

template <class Op, size_t N>
Work forward_work(const Op& op, typename Op::Forward* body, const std::array<Shape, N>& shapes, Device device = {}) {
  const auto t = std::make_shared<DenseTensors<Op, N>>(op, shapes, device);
  return {bytes_of(t->in) + double(t->out[0].bytes()), [=] { t->forward(body); }};
}

// Gradients of the first `wanted` inputs.
template <class Op, size_t N>
Work backward_work(const Op& op, typename Op::Forward* forward, typename Op::Backward* body, const std::array<Shape, N>& shapes,
                   size_t wanted = N, Device device = {}) {
  const auto t = std::make_shared<DenseTensors<Op, N>>(op, shapes, device);
  t->forward(forward);
  t->dy = random_tensor(t->out[0].shape(), device, N);
  for (size_t i = 0; i < std::min(wanted, N); ++i)
    if (t->in[i]) t->gradients[i] = Tensor(t->in[i].shape(), DType::float32, device);
  for (size_t i = 0; i < N; ++i)
    if (!Op::saves.has(save::input(int(i)))) t->in[i] = {};
  for (size_t i = 0; i < t->out.size(); ++i)
    if (!Op::saves.has(save::output(int(i)))) t->out[i] = {};
  const double out = t->out[0] ? double(t->out[0].bytes()) : 0;
  return {bytes_of(t->in) + bytes_of(t->gradients) + out + double(t->dy.bytes()), [=] { t->backward(body); }};
}

// add(name, op, shapes of the inputs, how many of them want a gradient) for the ops on feature maps of shape x.
template <class Add>
void for_each_dense_op(const Shape& x, const Add& add) {
  const Shape c{x[3]}, none;
  const auto one = [&](const char* name, const auto& op) { add(name, op, std::array{x}, 1); };
  one("relu", Relu{});
  one("elu", Elu{});
  one("gelu", Gelu{});
  one("sigmoid", Sigmoid{});
  one("tanh", Tanh{});
  one("exp", Exp{});
  add("add", glia::Add{}, std::array{x, x}, 2);
  add("add_channel", glia::Add{}, std::array{x, c}, 2);
  add("mul_sample", Mul{}, std::array{x, Shape{x[0], 1, 1, x[3]}}, 2);
  one("dropout", Dropout{.p = 0.5, .seed = 1, .stream = 2});
  add("batch_norm", BatchNorm{}, std::array{x, c, c, none, none}, 5);
  add("batch_norm_relu", BatchNorm{.relu = true}, std::array{x, c, c, none, none}, 5);
  add("group_norm", GroupNorm{.groups = x[3] % 8 ? 1 : 8}, std::array{x, c, c}, 3);
  add("layer_norm", LayerNorm{}, std::array{x, c, c}, 3);
  one("softmax", Softmax{});
  one("max_pool_2x2", MaxPool2d{});
  one("max_pool_3x3", MaxPool2d{.kernel = {3, 3}, .pad = {1, 1, 1, 1}});
  one("avg_pool_2x2", AvgPool2d{});
  one("global_avg_pool", GlobalAvgPool{});
  const Shape half{x[0], x[1] / 2, x[2] / 2, x[3]};  // so that the larger side has x's size
  const std::array<int64_t, 2> size{x[1], x[2]};
  add("nearest_x2", Resize{.mode = ResizeMode::nearest, .size = size}, std::array{half}, 1);
  add("bilinear_x2", Resize{.size = size, .align_corners = true}, std::array{half}, 1);
  one("bilinear_half", Resize{.size = {x[1] / 2, x[2] / 2}});
  add("bce_with_logits", BceWithLogits{}, std::array{x, x, none, none}, 1);
  add("mse_loss", MseLoss{}, std::array{x, x}, 1);
  add("dice_loss", DiceLoss{}, std::array{x, x}, 1);
}

}  // namespace glia::bench
