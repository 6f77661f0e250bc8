// RoiAlign where its values are known, and what it refuses.
#include <doctest/doctest.h>

#include <cmath>

#include "autograd/apply.h"
#include "kernels/roi_align.h"

namespace glia::tests {
namespace {

Tensor rois_of(std::vector<float> values) {
  const auto count = static_cast<int64_t>(values.size() / 5);
  return Tensor::from({count, 5}, values);
}

Tensor pooled(const RoiAlign& op, const Tensor& x, const Tensor& rois, const Tensor& levels = {}) {
  return apply(op, x, Tensor(), Tensor(), Tensor(), rois, levels);
}

}  // namespace

TEST_SUITE_BEGIN("boxes");

TEST_CASE("on a plane, a bin inside the map has the value at its centre") {
  Tensor x({1, 30, 40, 2});  // y and x of each pixel's centre, as aligned rois count them
  for (int64_t i = 0; i < 30 * 40; ++i) {
    x.data<float>()[2 * i] = static_cast<float>(i / 40) + 0.5f;
    x.data<float>()[2 * i + 1] = static_cast<float>(i % 40) + 0.5f;
  }
  const std::vector<float> box{0, 14.5f, 9.25f, 130, 101};
  for (const int64_t sampling : {0, 1, 2, 5}) {
    const Tensor y = pooled({.size = 7, .sampling = sampling}, x, rois_of(box));
    for (int64_t p = 0; p < 7; ++p)
      for (int64_t q = 0; q < 7; ++q) {
        const float* got = y.data<float>() + 2 * (7 * p + q);
        CHECK(got[0] == doctest::Approx((9.25 + (double(p) + 0.5) * (101 - 9.25) / 7) / 4).epsilon(1e-5));
        CHECK(got[1] == doctest::Approx((14.5 + (double(q) + 0.5) * (130 - 14.5) / 7) / 4).epsilon(1e-5));
      }
  }
}

TEST_CASE("levels by the side of a square, in equal parts of octaves") {
  const Tensor boxes = Tensor::from({6, 4}, std::vector<float>{0, 0, 111, 111, 5, 5, 117, 117, 0, 0, 223,  223,
                                                               0, 0, 224, 224, 0, 0, 447, 447, 0, 0, 9000, 9000});
  const Tensor level = apply(FpnLevel{}, boxes);
  CHECK(std::vector<int64_t>(level.data<int64_t>(), level.data<int64_t>() + 6) == std::vector<int64_t>{2, 3, 3, 4, 4, 5});
}

TEST_CASE("rois of images and levels that do not exist, and shapes that do not fit, are refused") {
  const Tensor x = Tensor::zeros({2, 5, 6, 3}), box = rois_of({0, 1, 1, 9, 9, 2, 1, 1, 9, 9}), good = rois_of({1, 1, 1, 9, 9});
  CHECK_THROWS_WITH(pooled({}, x, box), "roi_align: roi 1 is of image 2, want 0 to 1");
  CHECK_THROWS_WITH(pooled({}, x, rois_of({-1, 1, 1, 9, 9})), "roi_align: roi 0 is of image -1, want 0 to 1");
  CHECK_THROWS_WITH(pooled({}, x, rois_of({NAN, 1, 1, 9, 9})), "roi_align: roi 0 is of image nan, want 0 to 1");
  const auto level = [](int64_t l) { return Tensor::from({1}, std::vector<int64_t>{l}); };
  CHECK_THROWS_WITH(pooled({}, x, good, level(4)), "roi_align: roi 0 is of level 4, want 0 to 3, which of the maps given");
  CHECK_THROWS_WITH(pooled({}, x, good, level(2)), "roi_align: roi 0 is of level 2, whose map was not given");
  CHECK_THROWS_WITH(pooled({}, x, box, level(0)), "roi_align: levels are int64 (1,), want int64 (2,), one for each roi");
  CHECK_THROWS_WITH(pooled({.size = 0}, x, good), "roi_align: size 0 and sampling 0, want at least 1 and 0");
  CHECK_THROWS_WITH(pooled({}, Tensor::zeros({2, 0, 6, 3}), good),
                    "roi_align: map 0 is (2, 0, 6, 3), want (N, H, W, C) with pixels");
  CHECK_THROWS_WITH(apply(RoiAlign{}, x, Tensor::zeros({2, 3, 3, 4}), Tensor(), Tensor(), good, Tensor()),
                    "roi_align: map 1 is float32 (2, 3, 3, 4), want images, channels and type of map 0, float32 (2, 5, 6, 3)");
  CHECK_THROWS_WITH(pooled({}, x, Tensor::zeros({3, 4})),
                    "roi_align: rois are float32 (3, 4), want float32 (R, 5): image, x1, y1, x2, y2");
  CHECK_THROWS_WITH(apply(FpnLevel{}, Tensor::zeros({3, 5})), "fpn_level: boxes are float32 (3, 5), want floats (N, 4)");
}

TEST_SUITE_END();

}  // namespace glia::tests
