// Cases of the convolutions and matrix products. Sizes on both sides of every block of the fast bodies: register tiles of 6, 12,
// 14, 16, 32 and 64, blocks of channels, borders, output rows too short to fill a tile, groups, parity classes of the strides.
#include "kernels/conv.h"
#include "kernels/matmul.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

void conv_cases(OpCases& cases) {
  const auto add = [&](const char* label, const Conv2d& op, const Shape& x, const Shape& w, bool bias = false,
                       OpInput scale = absent(), OpInput residual = absent()) {
    const OpInput b = bias ? normal({w[0]}) : absent();
    cases.push_back(op_case(label, op, {normal(x), normal(w), b, scale, residual}));
  };
  const std::array<int64_t, 4> same{1, 1, 1, 1};
  const auto relu = Activation::relu;
  add("1x1", {}, {2, 5, 7, 24}, {40, 1, 1, 24}, true);
  add("1x1 to one channel", {}, {1, 9, 11, 64}, {1, 1, 1, 64}, true);
  add("1x1 from one channel", {}, {1, 9, 11, 1}, {33, 1, 1, 1}, true);
  add("1x1 stride 2", {.stride = {2, 2}}, {1, 9, 12, 20}, {18, 1, 1, 20});
  add("1x1 of 1024 channels", {}, {1, 4, 5, 1024}, {3, 1, 1, 1024});
  add("1x1, columns and channels that leave a rest", {}, {1, 5, 13, 83}, {82, 1, 1, 83}, true);
  add("1x1, a full panel and a narrow one", {}, {1, 3, 29, 131}, {65, 1, 1, 131}, true);
  add("1x1, pixels for several rounds of a weight gradient", {}, {1, 64, 80, 3}, {9, 1, 1, 3}, true);
  add("1x1 on a pixel", {}, {3, 1, 1, 17}, {16, 1, 1, 17}, true);
  add("3x3 same", {.pad = same}, {2, 6, 30, 16}, {32, 3, 3, 16}, true);
  add("3x3 same, wide", {.pad = same}, {1, 5, 41, 7}, {37, 3, 3, 7}, true);
  add("3x3 from one channel", {.pad = same}, {1, 13, 17, 1}, {16, 3, 3, 1}, true);
  add("3x3 from three channels", {.pad = same}, {2, 9, 18, 3}, {48, 3, 3, 3}, true);
  add("3x3 to two channels", {.pad = same}, {1, 8, 15, 20}, {2, 3, 3, 20}, true);
  add("3x3, 300 channels", {.pad = same}, {1, 3, 5, 300}, {20, 3, 3, 300});
  add("3x3, to 300 channels", {.pad = same}, {1, 3, 5, 20}, {300, 3, 3, 20});
  add("3x3 on a pixel", {.pad = same}, {1, 1, 1, 16}, {16, 3, 3, 16}, true);
  add("3x3 on a row", {.pad = same}, {1, 1, 7, 16}, {3, 3, 3, 16}, true);
  add("3x3 valid to a pixel", {}, {3, 3, 3, 16}, {3, 3, 3, 16}, true);
  add("3x3, no images", {.pad = same}, {0, 5, 6, 3}, {16, 3, 3, 3}, true);
  add("3x3, no input channels", {.pad = same}, {1, 3, 4, 0}, {5, 3, 3, 0}, true);
  add("3x3 stride 2", {.stride = {2, 2}, .pad = same}, {2, 11, 14, 16}, {17, 3, 3, 16}, true);
  add("3x3 stride 2, padded at the end", {.stride = {2, 2}, .pad = {0, 0, 1, 1}}, {1, 10, 12, 3}, {16, 3, 3, 3}, true);
  add("3x3 stride 3", {.stride = {3, 3}, .pad = same}, {1, 13, 17, 16}, {3, 3, 3, 16});
  add("2x2 stride 3: pixels that nothing reads", {.stride = {3, 3}}, {1, 9, 8, 5}, {6, 2, 2, 5}, true);
  add("3x3 dilation 2, stride 2", {.stride = {2, 2}, .pad = {2, 2, 2, 2}, .dilation = {2, 2}}, {1, 12, 11, 3}, {16, 3, 3, 3},
      true);
  add("3x3 pad 3", {.pad = {3, 3, 3, 3}}, {1, 5, 4, 3}, {3, 3, 3, 3}, true);
  add("3x3 unequal pads", {.pad = {1, 2, 0, 3}}, {1, 6, 7, 3}, {16, 3, 3, 3}, true);
  add("7x7 stride 2", {.stride = {2, 2}, .pad = {3, 3, 3, 3}}, {1, 23, 31, 3}, {16, 7, 7, 3});
  add("1x7, 3x1 strides", {.stride = {2, 1}, .pad = {0, 3, 0, 3}}, {1, 6, 10, 3}, {5, 1, 7, 3}, true);
  add("groups", {.pad = same, .groups = 2}, {3, 7, 6, 16}, {18, 3, 3, 8}, true);
  add("depthwise", {.pad = same, .groups = 37}, {2, 9, 8, 37}, {37, 3, 3, 1}, true);
  add("depthwise stride 2, dilated", {.stride = {2, 2}, .pad = {2, 1, 0, 3}, .dilation = {2, 1}, .groups = 16}, {1, 9, 8, 16},
      {16, 3, 3, 1});
  add("depthwise, two filters", {.stride = {2, 2}, .pad = same, .groups = 16}, {1, 9, 8, 16}, {32, 3, 3, 1});
  add("relu", {.pad = same, .activation = relu}, {2, 6, 19, 24}, {33, 3, 3, 24}, true);
  add("residual", {}, {2, 6, 5, 24}, {40, 1, 1, 24}, true, absent(), normal({2, 6, 5, 40}));
  add("frozen affine, residual, relu", {.pad = same, .activation = relu}, {1, 7, 16, 24}, {40, 3, 3, 24}, true,
      constant(uniform({40}, 0.25, 2)), normal({1, 7, 16, 40}));
  add("frozen affine without bias, stride 2", {.stride = {2, 2}, .pad = same}, {1, 7, 16, 12}, {20, 3, 3, 12}, false,
      constant(uniform({20}, -2, 2)));
  add("depthwise with everything", {.pad = same, .groups = 24, .activation = relu}, {1, 7, 16, 24}, {24, 3, 3, 1}, true,
      constant(uniform({24}, 0.25, 2)), normal({1, 7, 16, 24}));
  add("four channels with everything", {.stride = {1, 2}, .pad = same, .activation = relu}, {1, 7, 16, 37}, {4, 3, 3, 37}, true,
      constant(uniform({4}, 0.25, 2)), normal({1, 7, 8, 4}));
  add("groups with everything", {.groups = 3, .activation = relu}, {1, 7, 16, 24}, {36, 1, 1, 8}, true,
      constant(uniform({36}, 0.25, 2)), normal({1, 7, 16, 36}));
}

void conv_transpose_cases(OpCases& cases) {
  const auto add = [&](const char* label, const ConvTranspose2d& op, const Shape& x, const Shape& w, bool bias = true) {
    cases.push_back(op_case(label, op, {normal(x), normal(w), bias ? normal({w[3] * op.groups}) : absent()}));
  };
  add("2x2 stride 2", {.stride = {2, 2}}, {1, 5, 7, 16}, {16, 2, 2, 17});
  add("2x2 stride 2, three images", {.stride = {2, 2}}, {3, 4, 15, 33}, {33, 2, 2, 40}, false);
  add("2x2 stride 2 on a pixel", {.stride = {2, 2}}, {1, 1, 1, 64}, {64, 2, 2, 16});
  add("2x2 stride 2, relu", {.stride = {2, 2}, .activation = Activation::relu}, {2, 3, 5, 12}, {12, 2, 2, 10});
  add("3x3 stride 2, output padding", {.stride = {2, 2}, .pad = {1, 1, 1, 1}, .output_padding = {1, 1}}, {1, 6, 5, 16},
      {16, 3, 3, 3});
  add("3x3 stride 1", {.pad = {1, 1, 1, 1}}, {1, 6, 5, 3}, {3, 3, 3, 16});
  add("4x4 stride 2", {.stride = {2, 2}, .pad = {1, 1, 1, 1}}, {3, 5, 4, 3}, {3, 4, 4, 16});
  add("3x3 stride 3, groups", {.stride = {3, 3}, .groups = 2}, {1, 4, 5, 16}, {16, 3, 3, 3});
  add("3x3 dilation 2", {.stride = {2, 2}, .pad = {2, 2, 2, 2}, .output_padding = {1, 1}, .dilation = {2, 2}}, {1, 5, 4, 3},
      {3, 3, 3, 3});
  add("1x1 stride 2: pixels that nothing reaches", {.stride = {2, 2}, .output_padding = {1, 1}}, {1, 3, 4, 5}, {5, 1, 1, 6});
  add("no images", {.stride = {2, 2}}, {0, 5, 7, 16}, {16, 2, 2, 17});
  add("depthwise", {.stride = {2, 2}, .pad = {1, 1, 1, 1}, .groups = 18}, {1, 5, 4, 18}, {18, 4, 4, 1});
}

void matmul_cases(OpCases& cases) {
  const auto linear = [&](const char* label, const Shape& x, const Shape& w, bool bias) {
    cases.push_back(op_case(label, Linear{}, {normal(x), normal(w), bias ? normal({w[0]}) : absent()}));
  };
  linear("small", {3, 17}, {16, 17}, true);
  linear("one row", {1, 64}, {3, 64}, true);
  linear("one number", {5, 1}, {1, 1}, false);
  linear("no rows", {0, 5}, {3, 5}, true);
  linear("no inputs", {4, 0}, {3, 0}, true);
  linear("rank 3", {2, 5, 40}, {70, 40}, true);
  linear("rank 1", {9}, {4, 9}, true);
  linear("long sums", {15, 1100}, {35, 1100}, true);
  linear("many rows, few outputs, long sums", {300, 700}, {5, 700}, true);
  const auto matmul = [&](const char* label, const Matmul& op, const Shape& a, const Shape& b) {
    cases.push_back(op_case(label, op, {normal(a), normal(b)}));
  };
  matmul("nn", {}, {7, 17}, {17, 9});
  matmul("tn", {.transpose_a = true}, {17, 7}, {17, 9});
  matmul("nt", {.transpose_b = true}, {7, 17}, {9, 17});
  matmul("tt", {.transpose_a = true, .transpose_b = true}, {17, 7}, {9, 17});
  matmul("nn over several blocks", {}, {31, 600}, {600, 70});
  matmul("tt over several blocks", {.transpose_a = true, .transpose_b = true}, {600, 31}, {70, 600});
  matmul("batched", {}, {3, 5, 16}, {3, 16, 3});
  matmul("b broadcasts", {}, {3, 5, 16}, {16, 3});
  matmul("a broadcasts", {.transpose_a = true}, {16, 5}, {4, 16, 3});
  matmul("both broadcast", {.transpose_b = true}, {2, 1, 4, 3}, {1, 3, 5, 3});
  matmul("one number", {}, {1, 1}, {1, 1});
  matmul("inner size 0", {}, {4, 0}, {0, 3});
  matmul("no rows", {}, {0, 5}, {5, 3});
  matmul("no products", {}, {0, 2, 5}, {5, 3});
  matmul("tn in fours", {.transpose_a = true}, {130, 72}, {130, 80});
  matmul("many large products", {}, {16, 250, 12}, {16, 12, 230});
  matmul("many large products, tt", {.transpose_a = true, .transpose_b = true}, {16, 9, 252}, {16, 236, 9});
}

const RegisterOpCases conv(conv_cases);
const RegisterOpCases conv_transpose(conv_transpose_cases);
const RegisterOpCases matmul(matmul_cases);

}  // namespace
}  // namespace glia::tests
