// The table of docs/benchmarks.md: hand-written convolutions against oneDNN's, interleaved, so that a busy moment hits both.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <thread>

#include "bench/conv_shapes.h"
#include "bench/peak.h"
#include "tensor/parallel.h"
#include "tensor/random.h"

namespace glia::bench {
namespace {

Tensor random_tensor(const Shape& shape, uint64_t stream) {
  Tensor t(shape);
  const Philox random(1, stream);
  for (int64_t i = 0; i < t.size(); ++i)
    t.data<float>()[i] = static_cast<float>(random.uniform(static_cast<uint64_t>(i), -1.0, 1.0));
  return t;
}

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

ConvRun::ConvRun(const ConvShape& shape, ConvWork pass)
    : op(shape.op()),
      work(pass),
      x(random_tensor(shape.x(), 1)),
      w(random_tensor(shape.filter(), 2)),
      bias(random_tensor({shape.k}, 3)) {
  y = Tensor(op.infer(x, w, bias, {}, {}).shape);
  if (work == ConvWork::forward) op.activation = Activation::relu;
  if (work != ConvWork::forward) dy = random_tensor(y.shape(), 4);
  gradient = work == ConvWork::data_gradient     ? Tensor(x.shape())
             : work == ConvWork::weight_gradient ? Tensor(w.shape())
                                                 : Tensor();
}

void ConvRun::run(KernelChoice choice) {
  set_kernel_choice(choice);
  if (work == ConvWork::forward) {
    Conv2d::forward.pick({}, DType::float32)(op, x, w, bias, {}, {}, y);
  } else {
    const bool data = work == ConvWork::data_gradient;
    Conv2d::backward.pick({}, DType::float32)(op, x, w, {}, {}, {}, {}, dy, data ? &gradient : nullptr,
                                              data ? nullptr : &gradient, nullptr, nullptr, nullptr);
  }
  set_kernel_choice(KernelChoice::automatic);
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

}  // namespace glia::bench
