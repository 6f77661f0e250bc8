// Detection's data: augmentation of images, overlapping masks and boxes as one draw, the endless chain of batches, reading.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "data/detection_augment.h"
#include "data/image_io.h"
#include "data/loader.h"
#include "data/rle.h"
#include "data/rle_resample.h"
#include "data/sampling.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tests/detection_fixture.h"

namespace glia {
namespace {

using namespace tests;

DetectionDraw whole_draw(int64_t height, int64_t width, int64_t new_height, int64_t new_width) {
  return {.source_height = height,
          .source_width = width,
          .window_height = height,
          .window_width = width,
          .height = new_height,
          .width = new_width};
}

// What resample_mask replaces: every pixel of the picture by itself.
Tensor slow_mask(const Tensor& mask, const DetectionDraw& d) {
  const Tensor result = Tensor::zeros({d.height, d.width}, DType::uint8);
  const auto rows = nearest_sources(d.transpose ? d.window_width : d.window_height, d.height);
  const auto columns = nearest_sources(d.transpose ? d.window_height : d.window_width, d.width);
  for (int64_t y = 0; y < d.height; ++y) {
    for (int64_t x = 0; x < d.width; ++x) {
      int64_t sy = rows[size_t(d.vflip ? d.height - 1 - y : y)], sx = columns[size_t(d.hflip ? d.width - 1 - x : x)];
      if (d.transpose) std::swap(sy, sx);
      result.data<uint8_t>()[y * d.width + x] = mask.data<uint8_t>()[(sy + d.top) * mask.dim(1) + sx + d.left];
    }
  }
  return result;
}

TEST_SUITE_BEGIN("data");

TEST_CASE("detection: the defaults change nothing") {
  Example e = overlapping_example(1);
  const Example before = e;
  augment_detection(e.image, e.instances, {}, 1, 2, 3);
  CHECK(same_bits(e.image, before.image));
  CHECK(same(e.instances, before.instances));
}

TEST_CASE("detection: masks through every kind of draw are those of the picture") {
  const int64_t height = 40, width = 54;
  const std::vector<Instance> discs = three_discs(height, width);
  std::set<std::array<int64_t, 2>> sizes;
  int transposed = 0;
  DetectionAugment o = everything();
  o.redraw_empty_crops = false;
  for (int64_t i = 0; i < 200; ++i) {
    const DetectionDraw d = draw_detection(o, discs, height, width, 7, i % 5, i);
    sizes.insert({d.height, d.width});
    transposed += d.transpose;
    std::vector<Instance> expected;
    for (const Instance& disc : discs) {
      Instance n = disc;
      n.mask = encode_mask(slow_mask(decode_mask(disc.mask), d));
      n.box = bounding_box(n.mask);
      if (area(n.mask) >= 4) expected.push_back(n);
    }
    CHECK(same(augment_instances(discs, d, true, 4), expected));
  }
  CHECK(sizes.size() == 3);  // one for each short edge
  CHECK(transposed > 60);
  CHECK(transposed < 140);
}

TEST_CASE("detection: image and mask move together") {
  // The mask as a picture of 0 and 255: where no resize blurs it, the image is the mask.
  const int64_t height = 40, width = 54;
  const std::vector<Instance> one{disc(17, 30, 9, height, width)};
  const Tensor picture = Tensor::zeros({height, width, 1}, DType::uint8);
  paint_mask(one[0].mask, 255, picture.reshape({height, width}));
  DetectionAugment o = everything();
  o.short_edge = {}, o.brightness = o.contrast = 0;
  for (int64_t i = 0; i < 50; ++i) {
    const DetectionDraw d = draw_detection(o, one, height, width, 3, 0, i);
    CHECK(std::array{d.height, d.width} == std::array<int64_t, 2>{32, 36});
    const Tensor image = augment_detection_image(picture, d);
    const std::vector<Instance> moved = augment_instances(one, d);
    REQUIRE(moved.size() == 1);
    const Tensor painted = Tensor::zeros({d.height, d.width}, DType::uint8);
    paint_mask(moved[0].mask, 255, painted);
    CHECK(same_bits(image.reshape({d.height, d.width}), painted));
  }
}

TEST_CASE("detection: boxes are scaled, flipped, clipped; masks lie inside them") {
  const int64_t height = 40, width = 54;
  const std::vector<Instance> discs = three_discs(height, width);
  // By hand: x from 54 to 108 pixels, y from 40 to 60; disc 0 is x 12..28, y 7..23.
  DetectionDraw d = whole_draw(height, width, 60, 108);
  CHECK(augment_instances(discs, d)[0].box == Box{24, 10.5, 32, 24});
  d.hflip = true;  // x -> W - x
  CHECK(augment_instances(discs, d)[0].box == Box{108 - 56, 10.5, 32, 24});
  d.vflip = true;
  CHECK(augment_instances(discs, d)[0].box == Box{108 - 56, 60 - 34.5, 32, 24});
  // Disc 2 reaches over the border at the right by 2 in a box its source gave.
  std::vector<Instance> over{discs[2]};
  over[0].box = {44, 24, 12, 12};
  CHECK(augment_instances(over, whole_draw(height, width, 40, 54))[0].box == Box{44, 24, 10, 12});
  DetectionDraw turned = whole_draw(height, width, 54, 40);
  turned.transpose = true;
  CHECK(augment_instances(discs, turned)[0].box == Box{7, 12, 16, 16});

  DetectionAugment o = everything();
  o.crop = {0, 0};
  for (int64_t i = 0; i < 100; ++i) {
    const DetectionDraw draw = draw_detection(o, discs, height, width, 11, 0, i);
    // Nearest pixels lie within half a pixel of where they came from.
    const double slack = .5 * std::max(1.0, double(draw.height + draw.width) / double(height + width)) + 1e-4;
    for (const Instance& n : augment_instances(discs, draw)) {
      const Box tight = bounding_box(n.mask);
      CHECK(n.box[0] >= 0);
      CHECK(n.box[0] + n.box[2] <= double(draw.width));
      CHECK(tight[0] >= n.box[0] - slack);
      CHECK(tight[1] >= n.box[1] - slack);
      CHECK(tight[0] + tight[2] <= n.box[0] + n.box[2] + slack);
      CHECK(tight[1] + tight[3] <= n.box[1] + n.box[3] + slack);
    }
  }
  const Tensor corners = corner_boxes(augment_instances(discs, whole_draw(height, width, 60, 108)));
  CHECK(std::vector<float>(corners.data<float>(), corners.data<float>() + 4) == std::vector<float>{24, 10.5, 56, 34.5});
  CHECK(corner_boxes({}).shape() == Shape({0, 4}));
}

TEST_CASE("detection: flips and transposition twice give back the image and the masks, bit by bit") {
  const int64_t height = 40, width = 54;
  const Tensor image = noise_image(height, width, 3);
  const std::vector<Instance> discs = three_discs(height, width);
  for (int symmetry = 0; symmetry < 8; ++symmetry) {
    DetectionDraw there = whole_draw(height, width, height, width);
    there.hflip = symmetry & 1, there.vflip = symmetry & 2, there.transpose = symmetry & 4;
    if (there.transpose) std::swap(there.height, there.width);
    DetectionDraw back = whole_draw(there.height, there.width, height, width);
    back.transpose = there.transpose;
    back.hflip = there.transpose ? there.vflip : there.hflip, back.vflip = there.transpose ? there.hflip : there.vflip;
    CHECK(same_bits(augment_detection_image(augment_detection_image(image, there), back), image));
    CHECK(same(augment_instances(augment_instances(discs, there), back), discs));
  }
}

TEST_CASE("detection: a pure function of seed, epoch and index; the caller's image stays") {
  const DetectionAugment o = everything();
  const Example original = overlapping_example(5);
  const auto run = [&](uint64_t seed, int64_t epoch, int64_t index) {
    Example e = original;
    augment_detection(e.image, e.instances, o, seed, epoch, index);
    return e;
  };
  const Tensor kept = original.image.clone();
  const Example first = run(1, 2, 3);
  CHECK(same_bits(original.image, kept));
  run(9, 9, 9);
  CHECK(same_bits(run(1, 2, 3).image, first.image));
  CHECK(same(run(1, 2, 3).instances, first.instances));
  int other = 0;
  for (int64_t i = 0; i < 20; ++i) {
    other += !same_bits(run(1, 2, 4 + i).image, first.image);
    other += !same_bits(run(1, 3 + i, 3).image, first.image);
    other += !same_bits(run(2 + uint64_t(i), 2, 3).image, first.image);
  }
  CHECK(other > 55);

  DetectionAugment quiet = o;  // switching one key off leaves the others' draws alone
  quiet.hflip = false, quiet.contrast = 0;
  const DetectionDraw a = draw_detection(o, {}, 40, 54, 1, 2, 3), b = draw_detection(quiet, {}, 40, 54, 1, 2, 3);
  CHECK(a.top == b.top);
  CHECK(a.height == b.height);
  CHECK(a.brightness == b.brightness);
}

TEST_CASE("detection: short edges by choice and by range, every one of them; native size") {
  DetectionAugment o;
  o.short_edge = {640, 672, 704}, o.max_size = 1333;
  std::map<int64_t, int> seen;
  for (int64_t i = 0; i < 300; ++i) ++seen[draw_detection(o, {}, 520, 704, 1, 0, i).height];
  CHECK(seen.size() == 3);
  for (const auto& [height, count] : seen) CHECK(count > 60);
  o.short_edge = {20, 23}, o.short_edge_range = true;
  seen.clear();
  for (int64_t i = 0; i < 200; ++i) ++seen[draw_detection(o, {}, 520, 704, 1, 0, i).height];
  CHECK(seen.size() == 4);
  CHECK(seen.begin()->first == 20);
  CHECK(seen.rbegin()->first == 23);
  CHECK(resize_shortest_edge(520, 704, 800, 1333) == std::array<int64_t, 2>{800, 1083});
  CHECK(resize_shortest_edge(520, 704, 0, 100) == std::array<int64_t, 2>{520, 704});
  CHECK(resize_shortest_edge(100, 2000, 800, 1000) == std::array<int64_t, 2>{50, 1000});
  CHECK(resize_shortest_edge(1, 2000, 800, 100) == std::array<int64_t, 2>{1, 100});  // never 0 pixels
}

TEST_CASE("detection: an image smaller than the window is taken whole") {
  DetectionAugment o;
  o.crop = {64, 32};
  const DetectionDraw d = draw_detection(o, {}, 40, 54, 1, 0, 0);
  CHECK(std::array{d.top, d.window_height, d.window_width, d.height, d.width} == std::array<int64_t, 5>{0, 40, 32, 40, 32});
  CHECK(augment_detection_image(noise_image(40, 54), d).shape() == Shape({40, 32, 1}));
  o.crop = {64, 64};
  Example e = overlapping_example(1);
  const Example before = e;
  augment_detection(e.image, e.instances, o, 1, 0, 0);
  CHECK(same_bits(e.image, before.image));
  CHECK(same(e.instances, before.instances));
}

TEST_CASE("detection: whether a mask reaches into a window, at its edges") {
  Tensor mask = Tensor::zeros({8, 10}, DType::uint8);
  for (const int64_t at : {3 * 10 + 4, 4 * 10 + 4, 3 * 10 + 5}) mask.data<uint8_t>()[at] = 1;  // rows 3..4, columns 4..5
  const Rle rle = encode_mask(mask);
  for (int64_t top = 0; top < 8; ++top) {
    for (int64_t left = 0; left < 10; ++left) {
      for (int64_t height = 1; top + height <= 8; ++height) {
        for (int64_t width = 1; left + width <= 10; ++width) {
          bool expected = false;
          for (int64_t y = top; y < top + height; ++y)
            for (int64_t x = left; x < left + width; ++x) expected |= mask.data<uint8_t>()[y * 10 + x] != 0;
          CHECK(reaches_into(rle, top, left, height, width) == expected);
        }
      }
    }
  }
}

TEST_CASE("detection: windows without an instance are drawn again, a bounded number of times") {
  const int64_t height = 200, width = 200;
  const std::vector<Instance> one{disc(100, 100, 12, height, width)};
  DetectionAugment o;
  o.crop = {60, 60};
  const auto hits = [&](const std::vector<Instance>& drawn_for) {
    int count = 0;
    for (int64_t i = 0; i < 200; ++i)
      count += !augment_instances(one, draw_detection(o, drawn_for, height, width, 1, 0, i), true).empty();
    return count;
  };
  const int plain = hits(one);
  CHECK(plain < 120);
  o.redraw_empty_crops = true;
  CHECK(hits(one) > 190);
  CHECK(hits({}) < 120);  // an image without instances ends, too
}

TEST_CASE("detection: instances without pixels, without width, too small; crowds stay what they are") {
  const int64_t height = 40, width = 54;
  std::vector<Instance> list = three_discs(height, width);
  list.push_back(list[0]);
  list.back().box = {12, 7, 0, 16};  // no width
  list.push_back(list[0]);
  list.back().mask = {height, width, {static_cast<uint32_t>(height * width)}};  // no pixels
  list.push_back(disc(5.5, 5.5, .6, height, width));                            // one pixel, which a quarter's size may lose
  CHECK(area(list.back().mask) == 1);
  CHECK(augment_instances(list, whole_draw(height, width, height, width)).size() == 4);
  CHECK(augment_instances(list, whole_draw(height, width, height / 4, width / 4)).size() == 3);
  CHECK(augment_instances(list, whole_draw(height, width, height, width), false, 2).size() == 3);
  CHECK(augment_instances({}, whole_draw(height, width, 10, 10)).empty());
  const DetectionDraw other = whole_draw(height + 1, width, 10, 10);
  CHECK_THROWS_WITH(augment_instances(list, other), doctest::Contains("a mask is 40 x 54"));
  CHECK_THROWS_WITH(augment_detection_image(noise_image(40, 54), other), doctest::Contains("(40, 54, 1)"));
}

TEST_CASE("detection: float and 16-bit images are resized without antialiasing, as float32") {
  Tensor image({4, 8, 1}, DType::int32);
  for (int64_t i = 0; i < image.size(); ++i) image.data<int32_t>()[i] = static_cast<int32_t>(1000 * (i % 8));
  const Tensor half = resize_detection_image(image, 2, 4);
  CHECK(half.dtype() == DType::float32);
  for (int64_t x = 0; x < 4; ++x) CHECK(half.data<float>()[x] == doctest::Approx(1000 * (2 * double(x) + .5)));
  DetectionAugment o;
  o.brightness = .5;
  const DetectionDraw d = draw_detection(o, {}, 4, 8, 1, 0, 0);
  CHECK(augment_detection_image(image, d).data<float>()[1] == doctest::Approx(1000 * d.brightness));
}

TEST_CASE("detection: options out of range are refused by their key") {
  const auto refused = [](auto change, const char* key) {
    DetectionAugment o;
    change(o);
    CHECK_THROWS_WITH_AS(check(o), doctest::Contains(key), UsageError);
  };
  refused([](auto& o) { o.short_edge = {-1}; }, "augment.short_edge");
  refused([](auto& o) { o.short_edge = {800}, o.short_edge_range = true; }, "augment.short_edge");
  refused([](auto& o) { o.short_edge = {800, 640}, o.short_edge_range = true; }, "augment.short_edge");
  refused([](auto& o) { o.max_size = -1; }, "augment.max_size");
  refused([](auto& o) { o.crop = {10, 0}; }, "augment.crop");
  refused([](auto& o) { o.brightness = 1.5; }, "augment.brightness");
  refused([](auto& o) { o.contrast = -1; }, "augment.contrast");
  refused([](auto& o) { o.min_area = -1; }, "augment.min_area");
  check(everything());
}

TEST_CASE("detection: 5,000 instances in one image; 500 fitted in time") {
  const int64_t height = 520, width = 704;
  const auto many = [&](int n) {
    std::vector<Instance> list;
    const Philox philox(1, 1);
    for (int i = 0; i < n; ++i) {  // squares of 24: decoding a picture for each would be the slow part of the test
      const auto y = static_cast<int64_t>(philox.below(2 * uint64_t(i), uint64_t(height - 24)));
      const auto x = static_cast<int64_t>(philox.below(2 * uint64_t(i) + 1, uint64_t(width - 24)));
      Instance instance;
      instance.mask = {height, width, {static_cast<uint32_t>(x * height + y)}};
      for (int64_t c = 0; c < 24; ++c) {
        instance.mask.counts.push_back(24);
        instance.mask.counts.push_back(static_cast<uint32_t>(height - 24));
      }
      instance.mask.counts.back() = static_cast<uint32_t>(height * width - (x + 23) * height - y - 24);
      instance.box = bounding_box(instance.mask);
      list.push_back(std::move(instance));
    }
    return list;
  };
  DetectionAugment o;
  o.short_edge = {800}, o.max_size = 1333, o.hflip = true;
  const SerialRegion serial;
  const auto seconds = [&](int n) {
    const std::vector<Instance> list = many(n);
    const Tensor gray = noise_image(height, width);
    double best = 1e9;
    for (int64_t i = 0; i < 3; ++i) {
      Tensor image = gray;
      std::vector<Instance> instances = list;
      const auto start = std::chrono::steady_clock::now();
      augment_detection(image, instances, o, 1, 0, i);
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      CHECK(instances.size() == static_cast<size_t>(n));
    }
    return best;
  };
  const double few = seconds(500), most = seconds(5000);
  MESSAGE("500 instances: ", 1000 * few, " ms; 5,000: ", 1000 * most, " ms");
  CHECK(few < 2);  // 10 ms on a quiet core: room for sanitizers on busy machines
  CHECK(most < 20);
}

TEST_SUITE_END();

}  // namespace
}  // namespace glia
