#pragma once
// The formulas of test_conformance.cpp. Each takes a probe's input words and gives its output words (conformance.cu says which is which).
#include <cstdint>
#include <vector>

namespace glia::tests {

using Words = std::vector<uint32_t>;

// ---- numbers ----------------------------------------------------------------------------------------------------------------

// The 16-bit pattern nearest to x, ties to even, and the value of a pattern.
uint32_t encode_fp16(double x);
uint32_t encode_bf16(double x);
double decode_fp16(uint32_t bits);
double decode_bf16(uint32_t bits);

// ---- fragments: which element of the matrix is value i of a lane ("Matrix Fragments for mma" in the PTX manual) ----------------

struct Place {
  int row, column;
};

struct FragmentsTf32 {  // m16n8k8
  static constexpr int k = 8, values = 1;  // values in a register
  static Place a(int group, int thread, int i) { return {i == 0 || i == 2 ? group : group + 8, i < 2 ? thread : thread + 4}; }
  static Place b(int group, int thread, int i) { return {i == 0 ? thread : thread + 4, group}; }
  static double value(uint32_t word, int index);
};
struct Fragments16 {  // m16n8k16
  static constexpr int k = 16, values = 2;
  static Place a(int group, int thread, int i) {
    return {i < 2 || (4 <= i && i < 6) ? group : group + 8, thread * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
  }
  static Place b(int group, int thread, int i) { return {thread * 2 + (i & 1) + (i >= 2 ? 8 : 0), group}; }
};
struct FragmentsBf16 : Fragments16 {
  static double value(uint32_t word, int index) { return decode_bf16(word >> (16 * index) & 0xffff); }
};
struct FragmentsFp16 : Fragments16 {
  static double value(uint32_t word, int index) { return decode_fp16(word >> (16 * index) & 0xffff); }
};

// A lane's words: a of M fragments, b of N, c of M x N; out: c + a b.
template <class Fragments, int M, int N>
Words expect_mma(const Words& in);

// ---- the rest ------------------------------------------------------------------------------------------------------------------

template <int kCount, bool kTransposed>
Words expect_ldmatrix(const Words& in);
Words expect_cp_async(const Words& in);
template <int kWidth>
Words expect_shuffle(const Words& in);
Words expect_wide_shuffle(const Words& in);
Words expect_votes(const Words& in);
Words expect_reduce(const Words& in);
Words expect_block_votes(const Words& in);
Words expect_bits(const Words& in);
Words expect_conversions(const Words& in);
template <double (*decode)(uint32_t), uint32_t (*encode)(double)>
Words expect_half_arithmetic(const Words& in);
Words expect_functions(const Words& in);
Words expect_atomics(const Words& in);

}  // namespace glia::tests
