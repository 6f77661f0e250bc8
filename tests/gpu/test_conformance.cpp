// What every probe of conformance.h should give, by formulas from the PTX manual's tables and C's arithmetic: not by the emulator's
// code. Where there is a GPU, it has to give the same, so that a misreading of the manual shows.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <string>

#include "tests/gpu/conformance.h"
#include "tests/gpu/conformance_formulas.h"
#include "tests/gpu/device_array.h"

namespace glia::tests {
namespace {

using Word = uint32_t;

// ---- inputs -----------------------------------------------------------------------------------------------------------------

Word any_word(std::mt19937& generator, int) { return static_cast<Word>(generator()); }
Word normal_float(std::mt19937& generator, int) { return std::bit_cast<Word>(std::normal_distribution<float>()(generator)); }
Word positive_float(std::mt19937& generator, int) {
  return std::bit_cast<Word>(std::uniform_real_distribution<float>(0.1f, 3.0f)(generator));
}
// Bfloat16 factors of five bits, whose product is often halfway between two: then the third number decides, however small it is.
Word halfway_products(std::mt19937& generator, int index) {
  const auto word = static_cast<Word>(generator());
  return index % 3 < 2 ? (word & 0xfff0u) | 8u : word;
}
// Floats where conversions have their edges, and random ones of every size.
Word edge(std::mt19937& generator, int index) {
  const float special[] = {0.0f,      -0.0f,    INFINITY,   -INFINITY, NAN,       0.5f,      1.5f,     -2.5f,  2147483648.0f, -3e9f,
                           65504.0f,  65520.0f, 6e-8f,      2.9e-8f,   1.0009766f, 1.0004883f, 3.4e38f, 1e-40f, 4294967040.0f, 1.0f};
  const auto i = static_cast<size_t>(index);
  return i < std::size(special) ? std::bit_cast<Word>(special[i]) : static_cast<Word>(generator());
}
// Fragments: the first `inputs` of every `period` words are values to multiply, the rest accumulators.
template <int kPeriod, int kInputs>
Word tf32_fragments(std::mt19937& generator, int index) {
  const Word word = normal_float(generator, index);
  return index % kPeriod < kInputs ? word & 0xffffe000u : word;
}
template <int kPeriod, int kInputs, Word (*encode_half)(double)>
Word half_fragments(std::mt19937& generator, int index) {
  std::normal_distribution<double> normal;
  if (index % kPeriod >= kInputs) return normal_float(generator, index);
  const Word low = encode_half(normal(generator));
  return low | encode_half(normal(generator)) << 16;
}

// ---- the table --------------------------------------------------------------------------------------------------------------

struct Expectation {
  Word (*input)(std::mt19937& generator, int index);
  std::vector<Word> (*expect)(const std::vector<Word>& in);
  double tolerance = 0;  // 0: the same words, but any NaN for a NaN; else of floats, |got - want| / (1 + |want|)
};

const std::map<std::string, Expectation>& expectations() {
  // Tensor cores accumulate with a rounding of their own.
  constexpr double kAccumulated = 1e-4, kApproximate = 4e-6;
  static const std::map<std::string, Expectation> all{
      {"mma_tf32", {tf32_fragments<10, 6>, expect_mma<FragmentsTf32, 1, 1>, kAccumulated}},
      {"mma_bf16", {half_fragments<10, 6, encode_bf16>, expect_mma<FragmentsBf16, 1, 1>, kAccumulated}},
      {"mma_fp16", {half_fragments<10, 6, encode_fp16>, expect_mma<FragmentsFp16, 1, 1>, kAccumulated}},
      {"mma_tile_tf32", {tf32_fragments<38, 14>, expect_mma<FragmentsTf32, 2, 3>, kAccumulated}},
      {"mma_tile_bf16", {half_fragments<38, 14, encode_bf16>, expect_mma<FragmentsBf16, 2, 3>, kAccumulated}},
      {"mma_tile_fp16", {half_fragments<38, 14, encode_fp16>, expect_mma<FragmentsFp16, 2, 3>, kAccumulated}},
      {"ldmatrix_x4", {any_word, expect_ldmatrix<4, false>}},
      {"ldmatrix_x4_trans", {any_word, expect_ldmatrix<4, true>}},
      {"ldmatrix_x2", {any_word, expect_ldmatrix<2, false>}},
      {"ldmatrix_x2_trans", {any_word, expect_ldmatrix<2, true>}},
      {"cp_async", {any_word, expect_cp_async}},
      {"shuffle 32", {any_word, expect_shuffle<32>}},
      {"shuffle 16", {any_word, expect_shuffle<16>}},
      {"shuffle 4", {any_word, expect_shuffle<4>}},
      {"shuffle of 8 bytes", {any_word, expect_wide_shuffle}},
      {"votes", {any_word, expect_votes}},
      {"reduce", {any_word, expect_reduce}},
      {"block votes", {any_word, expect_block_votes}},
      {"bits", {any_word, expect_bits}},
      {"conversions", {edge, expect_conversions}},
      {"fp16 arithmetic", {any_word, expect_half_arithmetic<decode_fp16, encode_fp16>}},
      {"bf16 arithmetic", {halfway_products, expect_half_arithmetic<decode_bf16, encode_bf16>}},
      {"functions", {positive_float, expect_functions, kApproximate}},
      {"atomics", {any_word, expect_atomics}},
  };
  return all;
}

bool agree(Word got, Word want, double tolerance) {
  const auto g = std::bit_cast<float>(got), w = std::bit_cast<float>(want);
  if (std::isnan(g) && std::isnan(w)) return true;
  if (tolerance == 0) return got == want;
  return std::fabs(static_cast<double>(g) - w) <= tolerance * (1 + std::fabs(static_cast<double>(w)));
}

void check_probe(const gpu::Runtime& runtime, const Probe& probe, unsigned seed) {
  const auto found = expectations().find(probe.name);
  INFO(runtime.name, ": ", probe.name, ", seed ", seed);
  REQUIRE(found != expectations().end());
  const Expectation& expectation = found->second;
  std::mt19937 generator(seed);
  std::vector<Word> in;
  for (int i = 0; i < probe.in_words; ++i) in.push_back(expectation.input(generator, i));
  const DeviceArray<Word> device_in(runtime, in), out(runtime, static_cast<size_t>(probe.out_words));
  check_launch(runtime, probe.run(device_in.get(), out.get(), nullptr));
  const std::vector<Word> got = out.values(), want = expectation.expect(in);
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    CAPTURE(i);
    CAPTURE(got[i]);
    CAPTURE(want[i]);
    const bool same = agree(got[i], want[i], expectation.tolerance);
    CHECK(same);
    if (!same) return;  // one word is enough
  }
}

}  // namespace

TEST_SUITE_BEGIN("gpu");

TEST_CASE("conformance: the emulator gives what the manual says") {
  CHECK(emulated::conformance_probes().size() == expectations().size());
  for (const Probe& probe : emulated::conformance_probes())
    for (unsigned seed = 1; seed <= 5; ++seed) {
      const Emulation emulation({.order = seed == 2   ? gpu::Order::reverse
                                          : seed >= 3 ? gpu::Order::random
                                                      : gpu::Order::forward,
                                 .seed = seed});
      check_probe(gpu::emulated_runtime(), probe, seed);
    }
}

TEST_CASE("conformance: so does the GPU, where there is one") {
#if defined(GLIA_GPU_TESTS_ON_CUDA)
  const gpu::Runtime* cuda = gpu::cuda_runtime();
  REQUIRE(cuda);
  if (cuda->devices().count == 0) {
    MESSAGE("not run: " << cuda->devices().reason);
    return;
  }
  check(cuda->set_device(0));
  for (const Probe& probe : cuda::conformance_probes())
    for (unsigned seed = 1; seed <= 20; ++seed) check_probe(*cuda, probe, seed);
#endif
}

TEST_SUITE_END();

}  // namespace glia::tests
