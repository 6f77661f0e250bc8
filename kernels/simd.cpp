#include "kernels/simd.h"

#include <hwy/targets.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "tensor/error.h"

namespace glia {
namespace {

constexpr int64_t compiled = HWY_TARGETS;

// From the best down; a level is several targets where CPUs of one instruction set are told apart.
const std::vector<std::pair<const char*, int64_t>>& levels() {
  static const std::vector<std::pair<const char*, int64_t>> all{{"avx512", HWY_AVX3 | HWY_AVX3_DL},
                                                                {"avx2", HWY_AVX2},
                                                                {"sse4", HWY_SSE4},
                                                                {"ssse3", HWY_SSSE3},
                                                                {"scalar", HWY_EMU128 | HWY_SCALAR}};
  return all;
}

}  // namespace

std::string simd_level() {
  for (const auto& [name, targets] : levels())
    if (hwy::SupportedTargets() & compiled & targets) return name;
  return "baseline";
}

void use_simd(std::string_view level) {
  hwy::DisableTargets(0);
  if (level.empty()) return;
  int64_t above = 0;
  std::string known;
  for (const auto& [name, targets] : levels()) {
    const int64_t usable = hwy::SupportedTargets() & compiled & targets;
    if (level == name && usable) return hwy::DisableTargets(above);
    above |= targets;
    if (usable) known += (known.empty() ? "" : ", ") + std::string(name);
  }
  throw UsageError("GLIA_SIMD={}: want one of those that this program and this machine have: {}", level, known);
}

void use_simd_of_environment() {
  if (const char* level = std::getenv("GLIA_SIMD")) use_simd(level);
}

}  // namespace glia
