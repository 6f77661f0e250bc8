// Tables of docs/benchmarks.md: hand-written convolutions against oneDNN's, and Winograd's against the implicit GEMM. Both sides of a
// comparison are interleaved, so that a busy moment hits both.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <thread>

#include "bench/conv_shapes.h"
#include "bench/dense_ops.h"
#include "bench/peak.h"
#include "kernels/cpu/winograd.h"
#include "tensor/parallel.h"

namespace glia::bench {
namespace {

// Time on the clock; with one thread the processor's time, which other programs disturb less.
double now() {
  if (num_threads() == 1) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double seconds_of(ConvRun& run, KernelChoice choice) {
  const double start = now();
  run.run(choice);
  return now() - start;
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<long>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

}  // namespace

ConvRun::ConvRun(const ConvShape& shape, ConvWork pass, Device device)
    : op(shape.op()),
      work(pass),
      x(random_tensor(shape.x(), device, 1)),
      w(random_tensor(shape.filter(), device, 2)),
      bias(random_tensor({shape.k}, device, 3)) {
  y = Tensor(op.infer(x, w, bias, {}, {}).shape, DType::float32, device);
  if (work == ConvWork::forward) op.activation = Activation::relu;
  if (work != ConvWork::forward) dy = random_tensor(y.shape(), device, 4);
  gradient = work == ConvWork::data_gradient     ? Tensor(x.shape(), DType::float32, device)
             : work == ConvWork::weight_gradient ? Tensor(w.shape(), DType::float32, device)
                                                 : Tensor();
}

void ConvRun::run(KernelChoice choice) {
  const KernelChoiceScope scope(choice);
  if (work == ConvWork::forward) {
    Conv2d::forward.pick(x.device(), DType::float32)(op, x, w, bias, {}, {}, y);
  } else {
    const bool data = work == ConvWork::data_gradient;
    Conv2d::backward.pick(x.device(), DType::float32)(op, x, w, {}, {}, {}, {}, dy, data ? &gradient : nullptr,
                                                      data ? nullptr : &gradient, nullptr, nullptr, nullptr);
  }
}

int print_conv_table(const std::string& only, int rounds) {
  const double peak_gflops = peak().gflops;
  fmt::print("FMA peak {:.0f} GF/s, memory {:.1f} GB/s. GF/s (% of peak) of Glia and of oneDNN, and their ratio.\n\n",
             peak_gflops, peak().gbytes);
  fmt::print("| shape | forward | | | data gradient | | | weight gradient | | |\n|---|---|---|---|---|---|---|---|---|---|\n");
  constexpr ConvWork works[] = {ConvWork::forward, ConvWork::data_gradient, ConvWork::weight_gradient};
  double logs[3] = {};
  int shapes = 0;
  for (const ConvShape& shape : conv_shapes()) {
    if (shape.name.find(only) == std::string::npos) continue;
    ++shapes;
    fmt::print("| {} |", shape.name);
    for (size_t i = 0; i < 3; ++i) {
      ConvRun run(shape, works[i]);
      std::vector<double> times[2];
      for (int r = -1; r < rounds; ++r)
        for (const int variant : {0, 1}) {
          const KernelChoice choice = variant == 0 ? KernelChoice::hand : KernelChoice::vendor;
          // OpenMP's threads spin for a while after their work; and the first call after a pause is not the speed asked for.
          std::this_thread::sleep_for(std::chrono::milliseconds(8));
          if (run.flops() < 2e9) seconds_of(run, choice);
          const double seconds = seconds_of(run, choice);
          if (r >= 0) times[variant].push_back(seconds);
        }
      const double ours = run.flops() / median(times[0]) / 1e9, theirs = run.flops() / median(times[1]) / 1e9;
      logs[i] += std::log(ours / theirs);
      fmt::print(" {:.0f} ({:.0f} %) | {:.0f} ({:.0f} %) | {:.2f} |", ours, 100 * ours / peak_gflops, theirs,
                 100 * theirs / peak_gflops, ours / theirs);
    }
    fmt::print("\n");
    std::fflush(stdout);
  }
  fmt::print("| geometric mean |");
  for (const double sum : logs) fmt::print(" | | {:.2f} |", std::exp(sum / std::max(1, shapes)));
  fmt::print("\n");
  return 0;
}

namespace {

const cpu::ConvAlgorithm& algorithm(const char* name) {
  const auto list = cpu::conv_algorithms();
  return *std::find_if(list.begin(), list.end(), [&](const auto& a) { return std::string(a.name) == name; });
}

// Seconds of the run by each of the two, medians of interleaved rounds.
std::array<double, 2> seconds_by(ConvRun& run, const std::array<const cpu::ConvAlgorithm*, 2>& algorithms, int rounds) {
  std::array<std::vector<double>, 2> times;
  for (int r = -1; r < rounds; ++r)
    for (size_t i = 0; i < 2; ++i) {
      cpu::force_conv_algorithm(algorithms[i]);
      const double seconds = seconds_of(run, KernelChoice::hand);
      if (r >= 0) times[i].push_back(seconds);
    }
  cpu::force_conv_algorithm(nullptr);
  return {median(times[0]), median(times[1])};
}

}  // namespace

int print_conv_choices(const std::string& only, int rounds) {
  const std::array<const cpu::ConvAlgorithm*, 2> algorithms{&algorithm("winograd"), &algorithm("implicit_gemm")};
  std::vector<ConvShape> shapes = conv_shapes();
  for (const auto& [n, c, size] : {std::array<int64_t, 3>{5, 16, 256},
                                   {5, 32, 128},
                                   {5, 64, 64},
                                   {1, 16, 64},
                                   {1, 64, 16},
                                   {1, 256, 13},
                                   {1, 256, 8},
                                   {2, 512, 8}})
    shapes.push_back({fmt::format("small {0}>{0} {1} b{2}", c, size, n), n, c, size, size, c, 3, 1, 1});
  fmt::print(
      "GF/s of Winograd's algorithm and of the implicit GEMM, their ratio, and in brackets what the model of the cost says it is "
      "(none with fewer than 16 channels; Winograd's is chosen above {:.2f}); * where that picks the slower.\n\n",
      cpu::least_winograd_gain);
  fmt::print("| shape | forward | | data gradient | | weight gradient | |\n|---|---|---|---|---|---|---|\n");
  int wrong = 0, choices = 0;
  double lost = 0;
  for (const ConvShape& shape : shapes) {
    ConvGeometry g;
    if (shape.name.find(only) == std::string::npos || shape.size != 3 || shape.stride != 1) continue;
    fmt::print("| {} |", shape.name);
    for (const ConvWork work : {ConvWork::forward, ConvWork::data_gradient, ConvWork::weight_gradient}) {
      ConvRun run(shape, work);
      g = geometry(run.op, run.x, run.w, run.y);
      const auto [winograd, direct] = seconds_by(run, algorithms, rounds);
      const auto pass = static_cast<ConvPass>(work);
      const std::optional<double> gain = cpu::winograd_gain(g, pass);
      const bool slower = cpu::winograd_pays(g, pass) != (winograd < direct);
      ++choices;
      wrong += slower;
      if (slower) lost = std::max(lost, std::max(winograd, direct) / std::min(winograd, direct) - 1);
      fmt::print(" {:.0f}, {:.0f} | {:.2f} ({}){} |", run.flops() / winograd / 1e9, run.flops() / direct / 1e9, direct / winograd,
                 gain ? fmt::format("{:.2f}", *gain) : "-", slower ? " *" : "");
    }
    fmt::print("\n");
    std::fflush(stdout);
  }
  fmt::print("\n{} of {} choices are not the faster one, by at most {:.0f} %.\n", wrong, choices, 100 * lost);
  return 0;
}

}  // namespace glia::bench
