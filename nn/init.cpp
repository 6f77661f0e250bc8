#include "nn/init.h"

#include <array>
#include <cmath>
#include <utility>

#include "tensor/parallel.h"
#include "tensor/random.h"

namespace glia {
namespace {

constexpr std::array<std::pair<std::string_view, Initializer>, 12> names{{
    {"zeros", Initializer::zeros},
    {"ones", Initializer::ones},
    {"glorot_uniform", Initializer::glorot_uniform},
    {"glorot_normal", Initializer::glorot_normal},
    {"he_uniform", Initializer::he_uniform},
    {"he_normal", Initializer::he_normal},
    {"lecun_normal", Initializer::lecun_normal},
    {"torch_default", Initializer::torch_default},
    {"kaiming_normal_fan_out", Initializer::kaiming_normal_fan_out},
    {"kaiming_uniform_a1", Initializer::kaiming_uniform_a1},
    {"normal_0_01", Initializer::normal_0_01},
    {"normal_0_001", Initializer::normal_0_001},
}};

template <class Draw>
void fill(const Tensor& t, const Draw& draw) {
  dispatch_floating(t.dtype(), "initialize", [&]<class T>(T) {
    T* to = t.data<T>();
    parallel_for(t.size(), 1 << 14, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] = static_cast<T>(draw(static_cast<uint64_t>(i)));
    });
  });
}

// Number i of a standard normal cut at +-2, by rejection; each further try takes its own part of the counter's range.
double truncated_normal(const Philox& random, uint64_t i) {
  for (uint64_t attempt = 0;; ++attempt) {
    const double x = random.normal(i + (attempt << 40));
    if (std::abs(x) <= 2) return x;
  }
}

}  // namespace

Initializer parse_initializer(std::string_view name) {
  for (const auto& [known, value] : names)
    if (known == name) return value;
  std::string list;
  for (const auto& entry : names) list += (list.empty() ? "" : ", ") + std::string(entry.first);
  throw UsageError("initializer \"{}\" is unknown; known are {}", name, list);
}

std::string_view name_of(Initializer initializer) {
  for (const auto& [name, value] : names)
    if (value == initializer) return name;
  throw InternalError("initializer {} has no name", int(initializer));
}

void initialize(const Tensor& t, Initializer initializer, Fans fans, uint64_t seed, std::string_view name) {
  const Philox random(seed, fnv1a(name));
  constexpr double deviation_of_cut_normal = 0.87962566103423978;
  const auto uniform = [&](double limit) { fill(t, [&](uint64_t i) { return random.uniform(i, -limit, limit); }); };
  const auto normal = [&](double deviation) { fill(t, [&](uint64_t i) { return deviation * random.normal(i); }); };
  const auto cut_normal = [&](double variance) {
    const double deviation = std::sqrt(variance) / deviation_of_cut_normal;
    fill(t, [&](uint64_t i) { return deviation * truncated_normal(random, i); });
  };
  switch (initializer) {
    case Initializer::zeros: return t.fill(0);
    case Initializer::ones: return t.fill(1);
    case Initializer::glorot_uniform: return uniform(std::sqrt(6 / (fans.in + fans.out)));
    case Initializer::glorot_normal: return cut_normal(2 / (fans.in + fans.out));
    case Initializer::he_uniform: return uniform(std::sqrt(6 / fans.in));
    case Initializer::he_normal: return cut_normal(2 / fans.in);
    case Initializer::lecun_normal: return cut_normal(1 / fans.in);
    case Initializer::torch_default: return uniform(1 / std::sqrt(fans.in));
    case Initializer::kaiming_uniform_a1: return uniform(std::sqrt(3 / fans.in));
    case Initializer::kaiming_normal_fan_out: return normal(std::sqrt(2 / fans.out));
    case Initializer::normal_0_01: return normal(0.01);
    case Initializer::normal_0_001: return normal(0.001);
  }
}

}  // namespace glia
