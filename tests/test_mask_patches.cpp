// Patches against the whole masks; pasting to run lengths against the double reference; mask targets.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/apply.h"
#include "data/mask_patches.h"
#include "data/rle.h"
#include "tensor/parallel.h"
#include "tensor/random.h"

using namespace glia;

namespace {

// Blobs, an empty mask, a full one, single pixels in the corners, a line, noise.
std::vector<Tensor> sample_masks(int64_t h, int64_t w) {
  std::vector<Tensor> masks;
  Random random(7);
  const auto add = [&](const auto& inside) {
    Tensor mask({h, w}, DType::uint8);
    for (int64_t y = 0; y < h; ++y)
      for (int64_t x = 0; x < w; ++x) mask.data<uint8_t>()[y * w + x] = inside(y, x);
    masks.push_back(mask);
  };
  for (int i = 0; i < 6; ++i) {
    const double cy = random.uniform() * double(h), cx = random.uniform() * double(w), r = 1 + random.uniform() * double(h) / 3;
    add([&](int64_t y, int64_t x) { return std::hypot(double(y) - cy, double(x) - cx) < r && (y * 3 + x) % 7 != 0; });
  }
  add([](int64_t, int64_t) { return false; });
  add([](int64_t, int64_t) { return true; });
  add([](int64_t y, int64_t x) { return y == 0 && x == 0; });
  add([&](int64_t y, int64_t x) { return y == h - 1 && x == w - 1; });
  add([&](int64_t, int64_t x) { return x == w / 2; });
  add([&](int64_t, int64_t) { return random.uniform() < 0.1; });
  return masks;
}

std::vector<Rle> encode(const std::vector<Tensor>& masks) {
  std::vector<Rle> list;
  for (const Tensor& m : masks) list.push_back(encode_mask(m));
  return list;
}

}  // namespace

TEST_SUITE_BEGIN("data");

TEST_CASE("patches are the pixels of tight windows") {
  for (const auto& [h, w] : {std::pair<int64_t, int64_t>{19, 26}, {1, 1}, {1, 30}, {30, 1}, {64, 65}}) {
    const std::vector<Tensor> masks = sample_masks(h, w);
    const MaskPatches patches = to_patches(encode(masks));
    REQUIRE(patches.count() == int64_t(masks.size()));
    int64_t pixels = 0;
    for (size_t i = 0; i < masks.size(); ++i) {
      INFO(h, " x ", w, ", mask ", i);
      const Box box = bounding_box(encode_mask(masks[i]));
      const auto y0 = int64_t(box[1]), x0 = int64_t(box[0]), height = int64_t(box[3]), width = int64_t(box[2]);
      const int64_t* row = patches.windows.data<int64_t>() + 7 * i;
      CHECK(std::vector<int64_t>(row, row + 7) == std::vector<int64_t>{pixels, y0, x0, height, width, h, w});
      for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x)
          CHECK(patches.bits.data<uint8_t>()[pixels + y * width + x] == masks[i].data<uint8_t>()[(y0 + y) * w + x0 + x]);
      pixels += height * width;
    }
    CHECK(patches.bits.size() == pixels);
    CHECK(to_rles(patches) == encode(masks));
  }
  std::vector<Rle> two_sizes = encode(sample_masks(19, 26)), others = encode(sample_masks(8, 31));
  two_sizes.insert(two_sizes.end(), others.begin(), others.end());
  CHECK(to_rles(to_patches(two_sizes)) == two_sizes);
  const MaskPatches none = to_patches({});
  CHECK(none.count() == 0);
  CHECK(to_rles(none).empty());
}

TEST_CASE("windows outside of their image or pixels are refused") {
  const MaskPatches good = to_patches(encode(sample_masks(19, 26)));
  const Tensor boxes = Tensor::from<float>({1, 4}, {0, 0, 5, 5}), first = Tensor::from<int64_t>({1}, {0});
  for (const auto& [column, value] : {std::pair<int64_t, int64_t>{0, -1},
                                      {0, int64_t(1) << 40},
                                      {1, 19},
                                      {2, -1},
                                      {2, 26},
                                      {3, 1000},
                                      {4, int64_t(1) << 62},
                                      {5, 0}}) {
    const MaskPatches bad{good.bits, good.windows.clone()};
    bad.windows.data<int64_t>()[column] = value;
    INFO("column ", column, " is ", value);
    CHECK_THROWS_AS(to_rles(bad), InternalError);
    CHECK_THROWS_AS(apply(MaskCrop{.size = 4}, bad.bits, bad.windows, boxes, first), InternalError);
  }
  CHECK_THROWS_AS(apply(MaskCrop{.size = 4}, good.bits, good.windows, boxes, Tensor::from<int64_t>({1}, {12})), InternalError);
}

TEST_CASE("pasting to run lengths is the double reference at the threshold") {
  const double nan_value = std::numeric_limits<double>::quiet_NaN(), infinite = std::numeric_limits<double>::infinity();
  Random random(11);
  std::vector<std::array<double, 4>> list{{5, 5, 5, 9},           {9, 5, 5, 9},         {nan_value, 0, 9, 9},
                                          {0, 0, infinite, 9},    {-99, -99, -60, -60}, {90, 10, 99, 20},
                                          {4.4, 4.4, 4.6, 4.6},   {4.2, 4.2, 4.9, 4.9}, {0, 0, 51, 38},
                                          {-1e5, -1e5, 1e5, 1e5}, {-20, 5, 30, 70},     {50, 37, 51, 38}};
  while (list.size() < 60) {
    const double x = random.uniform(-10, 50), y = random.uniform(-10, 40);
    list.push_back({x, y, x + random.uniform(0.5, 40), y + random.uniform(0.5, 40)});
  }
  list[21] = {10.5, 12.5, 30, 31};  // of ones: exactly 0.5 at pixels on its edges
  const int64_t n = int64_t(list.size()), h = 38, w = 51;
  for (const int64_t m : {28, 1, 5}) {
    Tensor boxes({n, 4}), masks({n, m, m});
    for (int64_t i = 0; i < n * 4; ++i) boxes.data<float>()[i] = float(list[size_t(i / 4)][size_t(i % 4)]);
    for (int64_t i = 0; i < masks.size(); ++i) masks.data<float>()[i] = float(random.uniform());
    masks.slice(20, 21).fill(0);  // ends empty
    masks.slice(21, 22).fill(1);
    Tensor soft({n, h, w}, DType::float64);
    reference::paste_masks(PasteMasks{h, w}, masks.cast(DType::float64), boxes.cast(DType::float64), soft);
    const Tensor quick = apply(PasteMasks{h, w}, masks, boxes);
    for (const double threshold : {0.5, 0.1, 0.9}) {
      const std::vector<Rle> pasted = paste_masks(masks, boxes, h, w, threshold);
      REQUIRE(int64_t(pasted.size()) == n);
      int64_t wrong = 0, other = 0, near = 0;
      for (int64_t i = 0; i < n; ++i) {
        const Tensor mask = decode_mask(pasted[size_t(i)]);
        for (int64_t p = 0; p < h * w; ++p) {
          const double want = soft.data<double>()[i * h * w + p];
          const bool is_near = std::abs(want - threshold) < 2e-5, got = mask.data<uint8_t>()[p] != 0;
          near += is_near;
          wrong += !is_near && got != (want >= threshold);
          other += got != (quick.data<float>()[i * h * w + p] >= float(threshold));
        }
      }
      CHECK(wrong == 0);
      CHECK(other == 0);  // PasteMasks' own bits
      CHECK(near < 100);
      for (const size_t empty : {0u, 1u, 2u, 3u, 4u, 5u, 20u}) CHECK(area(pasted[empty]) == 0);
      CHECK(area(pasted[21]) > 0);
      const int threads = num_threads();
      set_num_threads(5);
      CHECK(paste_masks(masks, boxes, h, w, threshold) == pasted);
      set_num_threads(threads);
    }
  }
  CHECK(paste_masks(Tensor({0, 28, 28}), Tensor({0, 4}), h, w).empty());
  const std::vector<Rle> no_pixels = paste_masks(Tensor::full({1, 2, 2}, 1), Tensor::from<float>({1, 4}, {0, 0, 9, 9}), 0, 9);
  CHECK(area(no_pixels.at(0)) == 0);
  CHECK_THROWS_AS(paste_masks(Tensor({1, 2, 2}), Tensor({2, 4}), h, w), InternalError);
  CHECK_THROWS_AS(paste_masks(Tensor({0, 2, 2}), Tensor({0, 4}), h, w, 0), InternalError);
}

TEST_CASE("a mask target is ROIAlign of the mask") {
  // mask_rcnn: 5 x 5 ramps are given for ROIAlign; of a mask by hand: half of the box is inside.
  Tensor mask = Tensor::zeros({10, 10}, DType::uint8);
  for (int64_t y = 0; y < 10; ++y)
    for (int64_t x = 0; x < 5; ++x) mask.data<uint8_t>()[y * 10 + x] = 1;
  const MaskPatches patches = to_patches(std::vector<Rle>{encode_mask(mask)});
  const Tensor boxes = Tensor::from<float>({2, 4}, {1, 2, 9, 6, 4, 4, 6, 6}), which = Tensor::from<int64_t>({2}, {0, 0});
  const Tensor soft = apply(MaskCrop{.size = 4}, patches.bits, patches.windows, boxes, which);
  const float* v = soft.data<float>();
  for (int64_t row = 0; row < 4; ++row) {
    CHECK(v[4 * row] == 1);  // bins of 2 pixels: samples at 1 and 2, 3 and 4, 5 and 6, 7 and 8
    CHECK(v[4 * row + 1] == 1);
    CHECK(v[4 * row + 2] == 0);
    CHECK(v[4 * row + 3] == 0);
    // Bins of half a pixel: samples at 3.75, 4.25, 4.75, 5.25.
    CHECK(v[16 + 4 * row] == 1);
    CHECK(v[16 + 4 * row + 1] == 0.75f);
    CHECK(v[16 + 4 * row + 2] == 0.25f);
    CHECK(v[16 + 4 * row + 3] == 0);
  }
}

TEST_CASE("mask targets from polygons") {
  const std::vector<std::vector<Polygon>> shapes{
      {{0, 0, 10, 0, 10, 10, 0, 10}}, {}, {{2, 2, 5, 2, 5, 8, 2, 8}, {7, 2, 8, 2, 8, 8, 7, 8}}};
  const Tensor boxes = Tensor::from<float>({4, 4}, {0, 0, 10, 10, 0, 0, 10, 10, 0, 0, 10, 10, 5, 5, 5, 5});
  const Tensor bits = crop_polygons(shapes, boxes, Tensor::from<int64_t>({4}, {0, 1, 2, 0}), 20);
  const auto pixel = [&](int64_t r, int64_t y, int64_t x) { return int(bits.data<uint8_t>()[(r * 20 + y) * 20 + x]); };
  for (int64_t y = 0; y < 20; ++y) {
    for (int64_t x = 0; x < 20; ++x) {
      CHECK(pixel(0, y, x) == 1);
      CHECK(pixel(1, y, x) == 0);
      CHECK(pixel(2, y, x) == (y >= 4 && y < 16 && ((x >= 4 && x < 10) || (x >= 14 && x < 16))));
      CHECK(pixel(3, y, x) == 1);  // a box without area is 0.1 large, here inside
    }
  }
  const auto pixels = [](const Polygon& polygon, const std::vector<float>& box, int64_t size) {
    const std::vector<std::vector<Polygon>> one{{polygon}};
    const Tensor target = crop_polygons(one, Tensor::from<float>({1, 4}, box), Tensor::from<int64_t>({1}, {0}), size);
    return area(encode_mask(target.reshape({size, size})));
  };
  // Boxes are at least 0.1 wide and high: 0.06 is 12 of 20 pixels, also of a box of 0.05.
  CHECK(pixels({2, 2, 2.06, 2, 2.06, 2.06, 2, 2.06}, {2, 2, 2.05f, 2.05f}, 20) == 12 * 12);
  // 28 / 3 is rounded to float32, below its value: this edge stays left of the centre of column 4. pycocotools: 4 columns, 5 in double.
  CHECK(pixels({0, 0, 0.482142857625, 0, 0.482142857625, 3, 0, 3}, {0, 0, 3, 3}, 28) == 4 * 28);
  CHECK_THROWS_AS(crop_polygons(shapes, boxes, Tensor::from<int64_t>({4}, {0, 1, 2, 3}), 20), InternalError);
  CHECK_THROWS_AS(crop_polygons(shapes, boxes, Tensor::from<int64_t>({2}, {0, 1}), 20), InternalError);
}

TEST_SUITE_END();
