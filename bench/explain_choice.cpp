#include "bench/explain_choice.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "bench/dense_ops.h"
#include "kernels/cpu/winograd.h"

namespace glia::bench {
namespace {

struct Tensors {
  Tensor x, w, y;
  explicit Tensors(const ConvGeometry& g)
      : x(random_tensor({g.n, g.h, g.w, g.c}, {}, 1)),
        w(random_tensor({g.k, g.r, g.s, g.c_group()}, {}, 2)),
        y(random_tensor({g.n, g.p, g.q, g.k}, {}, 3)) {}
};

bool has(const cpu::ConvAlgorithm& a, ConvPass pass) {
  return pass == ConvPass::forward         ? a.forward != nullptr
         : pass == ConvPass::data_gradient ? a.data_gradient != nullptr
                                           : a.weight_gradient != nullptr;
}

double milliseconds_of(const cpu::ConvAlgorithm& a, const ConvGeometry& g, ConvPass pass, const Tensors& t) {
  const auto start = std::chrono::steady_clock::now();
  float *const x = t.x.data<float>(), *const w = t.w.data<float>(), *const y = t.y.data<float>();
  switch (pass) {
    case ConvPass::forward: a.forward(g, x, w, Tensor(), {}, y); break;
    case ConvPass::data_gradient: a.data_gradient(g, y, w, {}, x); break;
    case ConvPass::weight_gradient: a.weight_gradient(g, x, y, w); break;
  }
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

struct Timed {
  const cpu::ConvAlgorithm* algorithm;
  std::vector<double> times{};
  double median = 0;
};

// The chosen one first.
std::vector<Timed> timed(const cpu::ConvChoice& choice, int rounds) {
  const auto& [g, pass, chosen] = choice;
  std::vector<Timed> all{{chosen}};
  for (const cpu::ConvAlgorithm& a : cpu::conv_algorithms())
    if (&a != chosen && a.applicable(g, pass) && has(a, pass)) all.push_back({&a});
  const Tensors tensors(g);
  for (int r = -1; r < rounds; ++r)
    for (Timed& t : all) {
      const double ms = milliseconds_of(*t.algorithm, g, pass, tensors);
      if (r >= 0) t.times.push_back(ms);
    }
  for (Timed& t : all) {
    std::sort(t.times.begin(), t.times.end());
    t.median = t.times[t.times.size() / 2];
  }
  return all;
}

std::string shape_of(const ConvGeometry& g) {
  std::string text = fmt::format("{} x {}x{}, {}>{}, {}x{}", g.n, g.h, g.w, g.c, g.k, g.r, g.s);
  if (g.stride != std::array<int64_t, 2>{1, 1}) text += fmt::format(" stride {}", g.stride[0]);
  if (g.dilation != std::array<int64_t, 2>{1, 1}) text += fmt::format(" dilation {}", g.dilation[0]);
  if (g.groups != 1) text += fmt::format(" groups {}", g.groups);
  return text;
}

constexpr const char* name_of(ConvPass pass) {
  return pass == ConvPass::forward ? "forward" : pass == ConvPass::data_gradient ? "data gradient" : "weight gradient";
}

}  // namespace

void print_explained_choices(std::span<const cpu::ConvChoice> choices, int rounds) {
  fmt::print("{:<44} {:<16} {:<14} {:>6} {:>9}  {}\n", "convolution: images, channels, filter", "pass", "chosen", "model", "ms",
             "others, ms");
  int slower = 0, open = 0;
  double lost = 0;
  for (const cpu::ConvChoice& choice : choices) {
    const std::vector<Timed> all = timed(choice, rounds);
    std::string others;
    double best = all[0].median;
    for (size_t i = 1; i < all.size(); ++i) {
      others += fmt::format("{}{} {:.3f}", i > 1 ? ", " : "", all[i].algorithm->name, all[i].median);
      best = std::min(best, all[i].median);
    }
    open += all.size() > 1;
    if (best < all[0].median) ++slower, lost = std::max(lost, all[0].median / best - 1);
    const std::optional<double> gain = cpu::winograd_gain(choice.geometry, choice.pass);
    fmt::print("{:<44} {:<16} {:<14} {:>6} {:>9.3f}  {}{}\n", shape_of(choice.geometry), name_of(choice.pass),
               choice.algorithm->name, gain ? fmt::format("{:.2f}", *gain) : "-", all[0].median, others,
               best < all[0].median ? " *" : "");
  }
  fmt::print("\nmodel: how many times as fast as the implicit GEMM Winograd's algorithm should be; chosen above {:.2f}.",
             cpu::least_winograd_gain);
  fmt::print("\n{} of {} choices are not the fastest (*), by at most {:.0f} %.\n", slower, open, 100 * lost);
}

}  // namespace glia::bench
