// Convolutions on devices beyond the case table: their index arithmetic on the CPU, every algorithm, precision and tile on its
// own.
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "gpu/runtime.h"
#include "kernels/conv_index.h"
#include "tests/op_run.h"

namespace glia::tests {
namespace {

struct ConvDevice {
  Device device;
  std::span<const DeviceConvAlgorithm> algorithms;
  void (*force)(const DeviceConvAlgorithm*, int);
};
std::vector<ConvDevice> conv_devices() {
  std::vector<ConvDevice> all{{{DeviceKind::emulated}, emulated::conv_algorithms(), emulated::force_conv_algorithm}};
#if defined(GLIA_WITH_CUDA)
  if (gpu::cuda_runtime() && gpu::cuda_runtime()->devices().count > 0)
    all.push_back({{DeviceKind::cuda}, cuda::conv_algorithms(), cuda::force_conv_algorithm});
#endif
  return all;
}

class Forced {
 public:
  Forced(const ConvDevice& on, const char* name, Precision p, int tile) : on_(on), before_(precision()) {
    set_precision(p);
    for (const DeviceConvAlgorithm& a : on.algorithms)
      if (std::string_view(a.name) == name) on.force(&a, tile);
  }
  ~Forced() {
    set_precision(before_);
    on_.force(nullptr, -1);
  }

 private:
  const ConvDevice& on_;
  Precision before_;
};

// Floating numbers rounded to this many significant bits: 24 float32, 11 TF32, 8 BF16.
Tensor rounded(const Tensor& t, int bits) {
  if (!t || !is_floating(t.dtype())) return t;
  const Tensor r = t.cast(DType::float64).clone();
  for (double& v : r.values<double>()) {
    int exponent;
    const double fraction = std::frexp(v, &exponent);
    v = std::ldexp(std::nearbyint(std::ldexp(fraction, bits)), exponent - bits);
  }
  return r.cast(t.dtype());
}

// As run_case, with a cotangent of so many bits.
Run run_rounded(const OpCase& c, const std::vector<Tensor>& inputs, Device device, int bits) {
  std::vector<Tensor> in;
  for (const Tensor& t : inputs) in.push_back(rounded(t, bits).to(device));
  for (size_t i = 0; i < in.size(); ++i)
    if (in[i] && c.inputs[i].differentiable) require_grad(in[i]);
  Run result{.outputs = c.run(in), .gradients = {}};
  const Tensor y = result.outputs[0];
  backward(y, rounded(cotangent(y), bits).to(device));
  result.outputs[0] = y.detach().to(Device{});
  for (const Tensor& t : in) result.gradients.push_back(t ? grad_of(t).to(Device{}) : Tensor());
  return result;
}

Run reference_of(const OpCase& c, int bits) {
  set_kernel_choice(KernelChoice::reference);
  const Run run = run_rounded(c, cast_all(make_inputs(c), DType::float64), {}, bits);
  set_kernel_choice(KernelChoice::automatic);
  return run;
}

double worst_gradient(const Run& got, const Run& want) {
  double worst = 0;
  for (size_t i = 0; i < want.gradients.size(); ++i)
    if (want.gradients[i]) worst = std::max(worst, worst_error(got.gradients[i], want.gradients[i]));
  return worst;
}

std::vector<const OpCase*> conv_cases(const std::set<std::string>& labels = {}) {
  std::vector<const OpCase*> chosen;
  for (const OpCase& c : op_cases())
    if ((c.op == "conv2d" || c.op == "conv_transpose2d") && (labels.empty() || labels.contains(c.label))) chosen.push_back(&c);
  return chosen;
}

struct Way {
  const char* algorithm;
  Precision precision;
  int bits;      // of the factors
  double loose;  // tolerance for factors of 24 bits
};
constexpr Way ways[] = {{"direct", Precision::fp32, 24, 2e-5},
                        {"simt", Precision::exact, 24, 2e-5},
                        {"mma", Precision::tf32, 11, 5e-3},
                        {"mma", Precision::bf16, 8, 4e-2}};

// The case by one way, on factors that it holds exactly and, where it is less than float32, on others as well.
void check_way(const OpCase& c, const ConvDevice& on, const Way& way, int tile) {
  const Forced forced(on, way.algorithm, way.precision, tile);
  const std::string algorithm = way.algorithm;
  INFO(algorithm, ", ", way.bits, " bits, tile ", tile, ": ", c.op, " [", c.label, "]");
  const auto in = cast_all(make_inputs(c), DType::float32);
  const Run exact = run_rounded(c, in, on.device, way.bits), want = reference_of(c, way.bits);
  CHECK(worst_error(exact.outputs[0], want.outputs[0]) <= c.tolerance);
  // A scale multiplies dy before it is rounded.
  const bool scaled = c.op == "conv2d" && c.inputs[3].kind != OpInput::Kind::absent;
  if (!scaled) CHECK(worst_gradient(exact, want) <= c.tolerance);
  if (way.bits == 24) return;
  const Run loose = run_rounded(c, in, on.device, 24), true_value = reference_of(c, 24);
  CHECK(worst_error(loose.outputs[0], true_value.outputs[0]) <= way.loose);
  // Behind a ReLU whole gradients come and go with the sign of a small sum.
  if (c.label.find("relu") == std::string::npos && c.label.find("everything") == std::string::npos)
    CHECK(worst_gradient(loose, true_value) <= way.loose);
}

// Geometries of all sorts, of a few pixels each.
template <class F>
void for_each_geometry(F&& f) {
  for (const int64_t size : {1, 2, 3, 5})
    for (const int64_t stride : {1, 2, 3, 4})
      for (const int64_t dilation : {1, 2, 3})
        for (const int64_t before : {0, 1, 3}) {
          const int64_t h = 9, room = h + 2 * before - (size - 1) * dilation - 1;
          if (room < 0) continue;
          const int64_t p = room / stride + 1;
          f(ConvGeometry{.n = 2,
                         .h = h,
                         .w = h,
                         .c = 4,
                         .k = 4,
                         .r = size,
                         .s = size,
                         .p = p,
                         .q = p,
                         .stride = {stride, stride},
                         .before = {before, before},
                         .dilation = {dilation, dilation},
                         .groups = 1});
        }
}

}  // namespace

TEST_SUITE_BEGIN("device");

TEST_CASE("conv_index: division by a multiplication") {
  constexpr int64_t last = (int64_t{1} << 31) - 1;
  for (const int64_t d : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{7}, int64_t{64}, int64_t{641}, int64_t{65535},
                          int64_t{65537}, int64_t{1} << 30, (int64_t{1} << 30) + 1, last - 1, last}) {
    const Divisor by(d);
    for (const int64_t n : {int64_t{0}, int64_t{1}, d - 1, d, 2 * d - 1, 5 * d, last / d * d - 1, last / d * d, last}) {
      if (n < 0 || n > last) continue;
      int rest;
      CHECK(by.divide(int(n), rest) == n / d);
      CHECK(rest == n % d);
    }
  }
}

TEST_CASE("conv_index: tiles are taken once each, places of the inner dimension too") {
  for (const auto& [rows, columns] : {std::pair{1, 1}, {5, 3}, {3, 8}, {7, 9}, {2, 21}}) {
    std::set<std::pair<int, int>> seen;
    for (int id = 0; id < rows * columns; ++id) {
      int row, column;
      TileOrder{rows, columns}.decode(id, row, column);
      CHECK((row >= 0 && row < rows && column >= 0 && column < columns));
      seen.insert({row, column});
    }
    CHECK(int(seen.size()) == rows * columns);
  }
  constexpr int step = 32;
  for (const int channels : {4, 12, 32, 36, 64, 96})
    for (const auto& [r, s] : {std::pair{1, 1}, {3, 3}, {1, 7}, {7, 7}}) {
      const int width = inner_block(channels, step);
      std::set<std::array<int, 3>> seen;
      for (int chunk = 0; chunk < step / 4; ++chunk) {
        InnerPlace place(chunk * 4, width, r, s);
        for (int i = 0; i < inner_steps(channels, r * s, step); ++i, place.advance(step, width, r, s))
          if (place.block < channels) CHECK(seen.insert({place.r, place.s, place.block + place.channel}).second);
        CHECK(place.block >= channels);
      }
      CHECK(int(seen.size()) == r * s * channels / 4);
    }
}

TEST_CASE("conv_index: the classes of a data gradient have every product of the convolution once") {
  for_each_geometry([](const ConvGeometry& g) {
    std::set<std::array<int64_t, 3>> want, got;  // image row, filter row, result row: both axes are alike
    for (int64_t p = 0; p < g.p; ++p)
      for (int64_t r = 0; r < g.r; ++r)
        if (const int64_t h = p * g.stride[0] - g.before[0] + r * g.dilation[0]; h >= 0 && h < g.h) want.insert({h, r, p});
    int taps = 0, pixels = 0;
    for (const TapGrid& grid : gradient_grids(g)) {
      CHECK(grid.filter_at == taps);
      taps += grid.taps(), pixels += grid.p * grid.q;
      if (grid.phase_w != 0) continue;
      for (int i = 0; i < grid.p; ++i) {
        const unsigned valid = valid_taps(grid.rows, i, int(g.p));
        for (int t = 0; t < grid.rows.count; ++t)
          if (valid >> t & 1)
            CHECK(got.insert({i * g.stride[0] + grid.phase_h, grid.rows.filter + t * grid.rows.filter_step,
                              i + grid.rows.first + t * grid.rows.step})
                      .second);
      }
    }
    CHECK(got == want);
    CHECK(taps == g.r * g.s);
    CHECK(pixels == g.h * g.w);
  });
}

TEST_CASE("conv_index: plans of sums and tiles") {
  for (const int64_t tiles : {1, 5, 36, 1000})
    for (const int64_t steps : {0, 1, 3, 7, 64, 1001}) {
      const SplitPlan plan = split_plan(tiles, 2, steps);
      CHECK(int64_t(plan.parts) * plan.steps >= steps);
      CHECK((plan.parts == 1 || int64_t(plan.parts - 1) * plan.steps < steps));
      CHECK((plan.parts == 1 || tiles * plan.parts <= multiprocessors * 2));
    }
  constexpr TileShape shapes[] = {
      {256, 128, 1, 1.05, 144 * 1024}, {128, 128, 2, 1, 96 * 1024}, {64, 64, 4, 0.7}, {128, 32, 2, 0.65}};
  CHECK(choose_tile(shapes, 1 << 20, 256, 1) == 0);
  CHECK(choose_tile(shapes, 1 << 20, 256, 1, 99 * 1024) == 1);
  CHECK(choose_tile(shapes, 1 << 20, 20, 1) == 3);
  CHECK(choose_tile(shapes, 2048, 512, 1) == 2);
}

TEST_CASE("convolutions on devices: every algorithm gives the reference's values and gradients") {
  for (const ConvDevice& on : conv_devices())
    for (const Way& way : ways)
      for (const OpCase* c : conv_cases()) check_way(*c, on, way, -1);
}

TEST_CASE("convolutions on devices: every tile") {
  const auto cases = conv_cases({"3x3, to 300 channels", "3x3 same, wide", "3x3 stride 2", "groups", "2x2 stride 2, three images",
                                 "3x3 stride 2, output padding"});
  CHECK(cases.size() == 6);
  for (const ConvDevice& on : conv_devices())
    for (const Way& way : ways)
      for (int tile = 0; tile < 5 && std::string_view(way.algorithm) != "direct"; ++tile)
        for (const OpCase* c : cases) check_way(*c, on, way, tile);
}

#if defined(GLIA_WITH_CUDNN)
TEST_CASE("convolutions on devices: cuDNN without a GPU is not applicable") {
  const bool gpu = gpu::cuda_runtime()->devices().count > 0;
  CHECK(cudnn::fault().empty() == gpu);
  const ConvGeometry g{.n = 1, .h = 4, .w = 4, .c = 4, .k = 4, .r = 1, .s = 1, .p = 4, .q = 4};
  for (int i = 0; i < 2; ++i) CHECK(cudnn::conv_algorithm().applicable(g, ConvPass::forward) == gpu);
}
#endif

TEST_CASE("convolutions on devices: what the precisions compute in") {
  const OpCase& c = *conv_cases({"3x3 same"}).at(0);
  const auto in = cast_all(make_inputs(c), DType::float32);
  const Run want = reference_of(c, 24);
  CHECK(precision() == Precision::fp32);
  for (const ConvDevice& on : conv_devices()) {
    const auto error = [&](Precision p) {
      const Forced forced(on, "", p, -1);
      return worst_error(run_rounded(c, in, on.device, 24).outputs[0], want.outputs[0]);
    };
    CHECK(error(Precision::exact) < 2e-5);
    CHECK(error(Precision::fp32) < 2e-5);
    CHECK(error(Precision::tf32) > 1e-4);
    CHECK(error(Precision::bf16) > 1e-3);
    CHECK(on.algorithms.back().applicable({}, ConvPass::forward));
  }
}

TEST_SUITE_END();

}  // namespace glia::tests
