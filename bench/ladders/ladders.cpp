// The five ladders: problems, expected results in double, and what moves and is computed.
#include <algorithm>
#include <cmath>

#include "bench/ladders/convolution/convolution.h"
#include "bench/ladders/gemm/gemm.h"
#include "bench/ladders/reduction/reduction.h"
#include "bench/ladders/softmax/softmax.h"
#include "bench/ladders/transpose/transpose.h"
#include "tensor/random.h"

namespace glia::ladders {
namespace {

using Sizes = std::array<int64_t, 4>;

Tensor random_tensor(const Shape& shape, uint64_t stream) {
  const Tensor t(shape);
  const Philox random(1, stream);
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = static_cast<float>(random.uniform(static_cast<uint64_t>(i), -1.0, 1.0));
  return t;
}

Problem make_gemm(const Sizes& s) {
  return {{random_tensor({s[0], s[2]}, 1), random_tensor({s[2], s[1]}, 2)}, Tensor({s[0], s[1]}), s};
}
std::vector<double> expected_gemm(const Problem& p) {
  const auto [m, n, k, unused] = p.size;
  std::vector<double> c(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < k; ++j)
      for (int64_t l = 0; l < n; ++l)
        c[static_cast<size_t>(i * n + l)] += double(p.in[0].data<float>()[i * k + j]) * double(p.in[1].data<float>()[j * n + l]);
  return c;
}

Problem make_convolution(const Sizes& s) {
  return {{random_tensor({s[0], s[1], s[1], s[2]}, 1), random_tensor({s[3], 3, 3, s[2]}, 2)}, Tensor({s[0], s[1], s[1], s[3]}), s};
}
std::vector<double> expected_convolution(const Problem& p) {
  const auto [n, side, c, k] = p.size;
  std::vector<double> y(static_cast<size_t>(n * side * side * k));
  for (int64_t pixel = 0; pixel < n * side * side; ++pixel)
    for (int64_t tap = 0; tap < 9; ++tap) {
      const int64_t i = pixel / side % side + tap / 3 - 1, j = pixel % side + tap % 3 - 1;
      if (i < 0 || i >= side || j < 0 || j >= side) continue;
      const float* x = p.in[0].data<float>() + ((pixel / side / side * side + i) * side + j) * c;
      for (int64_t f = 0; f < k; ++f)
        for (int64_t l = 0; l < c; ++l)
          y[static_cast<size_t>(pixel * k + f)] += double(x[l]) * double(p.in[1].data<float>()[(f * 9 + tap) * c + l]);
    }
  return y;
}

Problem make_reduction(const Sizes& s) { return {{random_tensor({s[0]}, 1)}, Tensor({1}), s}; }
std::vector<double> expected_reduction(const Problem& p) {
  double sum = 0;
  for (const float v : p.in[0].values<float>()) sum += double(v);
  return {sum};
}

Problem make_rows(const Sizes& s) { return {{random_tensor({s[0], s[1]}, 1)}, Tensor({s[0], s[1]}), s}; }
std::vector<double> expected_softmax(const Problem& p) {
  const int64_t rows = p.size[0], columns = p.size[1];
  std::vector<double> y(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = p.in[0].data<float>() + r * columns;
    const double largest = *std::max_element(x, x + columns);
    double sum = 0;
    for (int64_t i = 0; i < columns; ++i) sum += std::exp(double(x[i]) - largest);
    for (int64_t i = 0; i < columns; ++i) y[static_cast<size_t>(r * columns + i)] = std::exp(double(x[i]) - largest) / sum;
  }
  return y;
}

Problem make_transpose(const Sizes& s) { return {{random_tensor({s[0], s[1]}, 1)}, Tensor({s[1], s[0]}), s}; }
std::vector<double> expected_transpose(const Problem& p) {
  const int64_t rows = p.size[0], columns = p.size[1];
  std::vector<double> y(static_cast<size_t>(rows * columns));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) y[static_cast<size_t>(j * rows + i)] = double(p.in[0].data<float>()[i * columns + j]);
  return y;
}

double none(const Sizes&) { return 0; }
double number(int64_t n) { return static_cast<double>(n); }

constexpr double tf32 = 1e-2;
constexpr Step gemm_steps[] = {GLIA_STEP(gemm_1_rows), GLIA_STEP(gemm_2_coalesced), GLIA_STEP(gemm_3_shared),
                               GLIA_STEP(gemm_4_registers), GLIA_STEP(gemm_5_pipeline), GLIA_STEP(gemm_6_tensor_cores, tf32)};
constexpr Step convolution_steps[] = {GLIA_STEP(convolution_1_direct), GLIA_STEP(convolution_2_implicit_gemm),
                                      GLIA_STEP(convolution_3_pipeline), GLIA_STEP(convolution_4_tensor_cores, tf32)};
constexpr Step reduction_steps[] = {GLIA_STEP(reduction_1_one_thread), GLIA_STEP(reduction_2_tree), GLIA_STEP(reduction_3_shuffles),
                                    GLIA_STEP(reduction_4_packs)};
constexpr Step softmax_steps[] = {GLIA_STEP(softmax_1_thread_a_row), GLIA_STEP(softmax_2_block_a_row),
                                  GLIA_STEP(softmax_3_warp_a_row), GLIA_STEP(softmax_4_online)};
constexpr Step transpose_steps[] = {GLIA_STEP(transpose_1_scattered), GLIA_STEP(transpose_2_tile), GLIA_STEP(transpose_3_padded),
                                    GLIA_STEP(transpose_4_packs)};

}  // namespace

const Ladder gemm{.name = "gemm",
                  .what = "C = A B",
                  .small = {128, 192, 96},
                  .large = {4096, 4096, 4096},
                  .make = make_gemm,
                  .expected = expected_gemm,
                  .flops = [](const Sizes& s) { return 2 * number(s[0]) * number(s[1]) * number(s[2]); },
                  .bytes = [](const Sizes& s) { return 4 * number(s[0] * s[2] + s[2] * s[1] + s[0] * s[1]); },
                  .steps = gemm_steps};
const Ladder convolution{.name = "convolution",
                         .what = "3x3, NHWC",
                         .small = {2, 9, 32, 64},
                         .large = {8, 256, 64, 64},
                         .make = make_convolution,
                         .expected = expected_convolution,
                         .flops = [](const Sizes& s) { return 18 * number(s[0] * s[1] * s[1]) * number(s[2] * s[3]); },
                         .bytes = [](const Sizes& s) { return 4 * number(s[0] * s[1] * s[1] * (s[2] + s[3]) + 9 * s[2] * s[3]); },
                         .steps = convolution_steps};
const Ladder reduction{.name = "reduction",
                       .what = "the sum of all numbers",
                       .small = {70001},
                       .large = {1 << 28},
                       .make = make_reduction,
                       .expected = expected_reduction,
                       .flops = none,
                       .bytes = [](const Sizes& s) { return 4 * number(s[0]); },
                       .steps = reduction_steps};
const Ladder softmax{.name = "softmax",
                     .what = "of the rows of a matrix",
                     .small = {37, 201},
                     .large = {1 << 17, 1024},
                     .make = make_rows,
                     .expected = expected_softmax,
                     .flops = none,
                     .bytes = [](const Sizes& s) { return 8 * number(s[0] * s[1]); },
                     .steps = softmax_steps};
const Ladder transpose{.name = "transpose",
                       .what = "rows become columns",
                       .small = {132, 68},
                       .large = {16384, 8192},
                       .make = make_transpose,
                       .expected = expected_transpose,
                       .flops = none,
                       .bytes = [](const Sizes& s) { return 8 * number(s[0] * s[1]); },
                       .steps = transpose_steps};

}  // namespace glia::ladders
