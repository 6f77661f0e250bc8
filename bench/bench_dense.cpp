// Element-wise ops, normalisation, pooling, resampling and dropout on the feature maps of a UNet: by op, shape, direction and variant.
// They are bound by memory. GB/s counts every tensor that a call reads or writes once, so an op that has to read one twice, or whose
// stores first fetch the line, stays below the speed of a copy.
#include <benchmark/benchmark.h>

#include "kernels/binary.h"
#include "kernels/dropout.h"
#include "kernels/norm.h"
#include "kernels/pool.h"
#include "kernels/resize.h"
#include "kernels/softmax.h"
#include "kernels/unary.h"
#include "tensor/random.h"

namespace glia::bench {
namespace {

Tensor random_tensor(const Shape& shape) {
  Tensor t(shape);
  const Philox random(1, uint64_t(shape.size()));
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = float(random.words(uint64_t(i))[0]) * 0x1p-31f - 1;
  return t;
}

template <size_t N>
std::array<TensorSpec, N> specs_of(const std::array<TensorSpec, N>& specs) {
  return specs;
}
std::array<TensorSpec, 1> specs_of(const TensorSpec& spec) { return {spec}; }

double bytes_of(std::initializer_list<const Tensor*> tensors) {
  double sum = 0;
  for (const Tensor* t : tensors) sum += *t ? double(t->bytes()) : 0;
  return sum;
}

void report(benchmark::State& state, double bytes) {
  state.counters["GB/s"] = benchmark::Counter(bytes * double(state.iterations()) / 1e9, benchmark::Counter::kIsRate);
}

template <class Op>
using ForwardBody = typename Op::Forward*;
template <class Op>
using BackwardBody = typename Op::Backward*;

// Inputs of shape `shapes`, an absent one where the shape is empty of axes.
template <class Op, size_t... I>
void forward(benchmark::State& state, const Op& op, ForwardBody<Op> body, const std::vector<Shape>& shapes,
             std::index_sequence<I...>) {
  const std::array<Tensor, sizeof...(I)> in{(shapes[I].rank() ? random_tensor(shapes[I]) : Tensor())...};
  const auto specs = specs_of(op.infer(in[I]...));
  std::array<Tensor, std::tuple_size_v<decltype(specs)>> out;
  for (size_t i = 0; i < out.size(); ++i) out[i] = Tensor(specs[i].shape);
  const auto run = [&] { std::apply([&](auto&... o) { body(op, in[I]..., o...); }, out); };
  run();
  for (auto _ : state) run();
  report(state, bytes_of({&in[I]...}) + double(out[0].bytes()));
}

template <class Op, size_t... I>
void backward(benchmark::State& state, const Op& op, BackwardBody<Op> body, const std::vector<Shape>& shapes,
              std::index_sequence<I...>) {
  std::array<Tensor, sizeof...(I)> in{(shapes[I].rank() ? random_tensor(shapes[I]) : Tensor())...};
  const auto specs = specs_of(op.infer(in[I]...));
  std::array<Tensor, std::tuple_size_v<decltype(specs)>> out;
  for (size_t i = 0; i < out.size(); ++i) out[i] = Tensor(specs[i].shape);
  std::apply([&](auto&... o) { Op::forward.cpu(op, in[I]..., o...); }, out);
  const Tensor dy = random_tensor(out[0].shape());
  const std::array<Tensor, sizeof...(I)> gradients{(in[I] ? Tensor(in[I].shape()) : Tensor())...};
  std::array<Tensor*, sizeof...(I)> wanted{(in[I] ? const_cast<Tensor*>(&gradients[I]) : nullptr)...};
  for (size_t i = 0; i < in.size(); ++i)
    if (!Op::saves.has(save::input(int(i)))) in[i] = {};
  for (size_t i = 0; i < out.size(); ++i)
    if (!Op::saves.has(save::output(int(i)))) out[i] = {};
  const auto run = [&] { std::apply([&](auto&... o) { body(op, in[I]..., o..., dy, wanted[I]...); }, out); };
  run();
  for (auto _ : state) run();
  report(state, bytes_of({&in[I]...}) + bytes_of({&gradients[I]...}) + double(out[0] ? out[0].bytes() : 0) + double(dy.bytes()));
}

template <class Op, size_t inputs>
void add(const std::string& name, const Op& op, const Shape (&shapes)[inputs], bool with_reference) {
  const std::vector<Shape> list(shapes, shapes + inputs);
  const auto sequence = std::make_index_sequence<inputs>();
  std::string full = name + "/" + to_string(shapes[0]);
  std::erase(full, ' ');  // a filter on the command line needs no quotes
  const auto add_variant = [&](const char* variant, ForwardBody<Op> f, BackwardBody<Op> b) {
    const auto settle = [](benchmark::internal::Benchmark* x) { x->UseRealTime()->Unit(benchmark::kMillisecond); };
    settle(benchmark::RegisterBenchmark((full + "/forward/" + variant).c_str(),
                                        [=](benchmark::State& s) { forward(s, op, f, list, sequence); }));
    settle(benchmark::RegisterBenchmark((full + "/backward/" + variant).c_str(),
                                        [=](benchmark::State& s) { backward(s, op, b, list, sequence); }));
  };
  if (with_reference) add_variant("reference", Op::forward.reference, Op::backward.reference);
  add_variant("cpu", Op::forward.cpu, Op::backward.cpu);
}

void add_ops(const Shape& x, bool reference) {
  const Shape c{x[3]}, none;
  add("relu", Relu{}, {x}, reference);
  add("elu", Elu{}, {x}, reference);
  add("gelu", Gelu{}, {x}, reference);
  add("sigmoid", Sigmoid{}, {x}, reference);
  add("tanh", Tanh{}, {x}, reference);
  add("exp", Exp{}, {x}, reference);
  add("add", Add{}, {x, x}, reference);
  add("add_channel", Add{}, {x, c}, reference);
  add("mul_sample", Mul{}, {x, Shape{x[0], 1, 1, x[3]}}, reference);
  add("dropout", Dropout{.p = 0.5, .seed = 1, .stream = 2}, {x}, reference);
  add("batch_norm", BatchNorm{}, {x, c, c, none, none}, reference);
  add("batch_norm_relu", BatchNorm{.relu = true}, {x, c, c, none, none}, reference);
  add("group_norm", GroupNorm{.groups = x[3] % 8 ? 1 : 8}, {x, c, c}, reference);
  add("layer_norm", LayerNorm{}, {x, c, c}, reference);
  add("softmax", Softmax{}, {x}, reference);
  add("max_pool_2x2", MaxPool2d{}, {x}, reference);
  add("max_pool_3x3", MaxPool2d{.kernel = {3, 3}, .pad = {1, 1, 1, 1}}, {x}, reference);
  add("avg_pool_2x2", AvgPool2d{}, {x}, reference);
  add("global_avg_pool", GlobalAvgPool{}, {x}, reference);
  const Shape half{x[0], x[1] / 2, x[2] / 2, x[3]};  // so that the larger side has x's size
  const std::array<int64_t, 2> size{x[1], x[2]};
  add("nearest_x2", Resize{.mode = ResizeMode::nearest, .size = size}, {half}, reference);
  add("bilinear_x2", Resize{.size = size, .align_corners = true}, {half}, reference);
  add("bilinear_half", Resize{.size = {x[1] / 2, x[2] / 2}}, {x}, reference);
}

const bool registered = [] {
  add_ops({1, 64, 64, 64}, true);
  add_ops({5, 256, 256, 3}, false);
  add_ops({5, 256, 256, 16}, false);
  add_ops({5, 256, 256, 64}, false);
  add_ops({5, 64, 64, 256}, false);
  add_ops({5, 16, 16, 1024}, false);
  return true;
}();

}  // namespace
}  // namespace glia::bench
