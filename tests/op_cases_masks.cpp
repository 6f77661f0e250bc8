#include <array>
#include <cmath>
#include <limits>

#include "kernels/masks.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

using Box4 = std::array<double, 4>;

// Boxes about an image (height, width), up to `largest` times its size, some of them beyond its edges, from uniform numbers; then
// those of `special`. Sums and products are exact in float32.
Tensor boxes_about(const Tensor& uniform, double height, double width, double largest, std::span<const Box4> special) {
  Tensor boxes = uniform.to(Device{}).clone();
  dispatch_floating(boxes.dtype(), "boxes", [&]<class T>(T) {
    T* b = boxes.data<T>();
    for (int64_t i = 0; i < boxes.dim(0); ++i, b += 4) {
      b[0] = (b[0] * T(1.5) - T(.25)) * T(width);
      b[1] = (b[1] * T(1.5) - T(.25)) * T(height);
      b[2] = b[0] + b[2] * T(width * largest);
      b[3] = b[1] + b[3] * T(height * largest);
      if (size_t(i) < special.size())
        for (size_t k = 0; k < 4; ++k) b[k] = T(special[size_t(i)][k]);
    }
  });
  return boxes.to(uniform.device());
}

const double nan_value = std::numeric_limits<double>::quiet_NaN(), infinite = std::numeric_limits<double>::infinity();

struct Window {
  int64_t y0, x0, height, width, image_height, image_width;
};

// Windows with random pixels, one after the other.
void crop_case(OpCases& cases, const char* label, int64_t size, int64_t count, double largest, const std::vector<Window>& windows,
               const std::vector<Box4>& special = {}) {
  std::vector<int64_t> rows;
  int64_t pixels = 0;
  for (const Window& w : windows) {
    for (const int64_t v : {pixels, w.y0, w.x0, w.height, w.width, w.image_height, w.image_width}) rows.push_back(v);
    pixels += w.height * w.width;
  }
  const int64_t g = int64_t(windows.size());
  const Tensor table = Tensor::from<int64_t>({g, 7}, rows);
  const MaskCrop op{.size = size};
  OpCase c = op_case(label, op, {}, 1e-4);
  c.inputs = {constant(uniform({count, 4}, 0, 1)), mask({pixels}), integers({count}, std::max<int64_t>(g, 1))};
  const double height = g ? double(windows[0].image_height) : 8, width = g ? double(windows[0].image_width) : 8;
  c.run = [=](std::span<const Tensor> in) {
    const Tensor boxes = boxes_about(in[0], height, width, largest, special);
    return std::vector<Tensor>{apply(op, in[1], table.to(in[1].device()), boxes, in[2])};
  };
  cases.push_back(c);
}

void paste_case(OpCases& cases, const char* label, int64_t m, int64_t count, int64_t height, int64_t width, double largest,
                const std::vector<Box4>& special = {}) {
  const PasteMasks op{height, width};
  OpCase c = op_case(label, op, {}, 2e-4);
  c.inputs = {constant(uniform({count, m, m}, 0, 1)), constant(uniform({count, 4}, 0, 1))};
  c.run = [=](std::span<const Tensor> in) {
    return std::vector<Tensor>{apply(op, in[0], boxes_about(in[1], double(height), double(width), largest, special))};
  };
  cases.push_back(c);
}

const RegisterOpCases masks([](OpCases& cases) {
  // One inside, one empty, the whole image, and two at its corners.
  const std::vector<Window> windows{
      {9, 14, 17, 11, 40, 52}, {0, 0, 0, 0, 40, 52}, {0, 0, 40, 52, 40, 52}, {0, 0, 8, 13, 40, 52}, {33, 45, 7, 7, 40, 52}};
  crop_case(cases, "28", 28, 12, .5, windows);
  crop_case(cases, "14, small boxes", 14, 20, .125, windows);
  crop_case(cases, "7, large boxes", 7, 20, 2, windows);
  crop_case(cases, "one bin", 1, 9, 1, windows);
  crop_case(cases, "odd boxes", 5, 12, 1, windows,
            {Box4{10, 10, 10, 20},  // no width, negative height, NaN, infinite, far too large, far away, the image
             Box4{10, 20, 20, 10}, Box4{nan_value, 0, 10, 10}, Box4{0, 0, 10, nan_value}, Box4{0, -infinite, 10, infinite},
             Box4{-3e7, -3e7, 3e7, 3e7}, Box4{1e5, 1e5, 1e5 + 16, 1e5 + 16}, Box4{-300, -200, 400, 300}, Box4{0, 0, 52, 40}});
  crop_case(cases, "images of other sizes", 6, 15, 1, {{2, 3, 9, 9, 20, 20}, {0, 0, 1, 1, 1, 1}, {5, 0, 60, 3, 70, 3}});
  crop_case(cases, "no boxes", 28, 0, 1, windows);
  crop_case(cases, "only empty masks", 4, 3, 1, {{0, 0, 0, 0, 9, 9}, {0, 0, 0, 0, 0, 0}});
  crop_case(cases, "no masks", 4, 0, 1, {});

  paste_case(cases, "28", 28, 7, 38, 51, .5);
  paste_case(cases, "larger than the image", 14, 6, 23, 31, 4);
  paste_case(cases, "smaller than a pixel of the map", 28, 8, 20, 20, .25);
  paste_case(cases, "one value", 1, 6, 16, 12, 1);
  paste_case(cases, "wider than a block", 7, 2, 3, 600, 1);
  paste_case(cases, "odd boxes", 5, 9, 17, 19, 1,
             {Box4{5, 5, 5, 9},  // no width, negative width, NaN, infinite, huge, tiny, far away, the image
              Box4{9, 5, 5, 9}, Box4{nan_value, 0, 10, 10}, Box4{0, 0, infinite, 10}, Box4{-1e6, -1e6, 1e6, 1e6},
              Box4{4.375, 4.375, 4.625, 4.625}, Box4{1e5, 1e5, 1e5 + 16, 1e5 + 16}, Box4{0, 0, 19, 17}, Box4{-40, -40, -1, -1}});
  paste_case(cases, "no masks", 28, 0, 38, 51, 1);
  paste_case(cases, "no image", 7, 2, 0, 10, 1);
});

}  // namespace
}  // namespace glia::tests
