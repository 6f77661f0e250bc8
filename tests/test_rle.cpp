// Run lengths beyond the parity cases: random masks of many shapes against pixel-by-pixel decoding, and what broken text says.
#include <doctest/doctest.h>

#include <string>

#include "data/limits.h"
#include "data/polygon.h"
#include "data/rle.h"
#include "tensor/random.h"

using namespace glia;

namespace {

Tensor random_mask(int64_t h, int64_t w, double share, uint64_t seed) {
  Random random(seed);
  Tensor mask({h, w}, DType::uint8);
  for (int64_t i = 0; i < mask.size(); ++i) mask.data<uint8_t>()[i] = random.uniform() < share;
  return mask;
}

bool equal(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}

std::string decode_by_pixel(const Rle& rle) {  // row-major text of 0 and 1
  std::string text(size_t(rle.height * rle.width), '?');
  int64_t p = 0;
  for (size_t i = 0; i < rle.counts.size(); ++i)
    for (uint32_t k = 0; k < rle.counts[i]; ++k, ++p)
      text[size_t(p % rle.height * rle.width + p / rle.height)] = i % 2 ? '1' : '0';
  return text;
}

}  // namespace

TEST_SUITE_BEGIN("data");

TEST_CASE("run lengths of random masks, through every form and back") {
  uint64_t seed = 0;
  for (const auto& [h, w] :
       {std::pair{0, 0}, {0, 5}, {5, 0}, {1, 1}, {1, 9}, {9, 1}, {7, 8}, {8, 7}, {16, 64}, {17, 65}, {33, 130}}) {
    for (const double share : {0.0, 0.02, 0.5, 0.97, 1.0}) {
      INFO(h, " x ", w, ", share ", share);
      const Tensor mask = random_mask(h, w, share, ++seed);
      const Rle rle = encode_mask(mask);
      std::string text = decode_by_pixel(rle);
      for (int64_t i = 0; i < mask.size(); ++i) REQUIRE(int(text[size_t(i)] - '0') == mask.data<uint8_t>()[i]);
      CHECK(equal(decode_mask(rle), mask));
      CHECK(rle_from_coco_string(to_coco_string(rle), h, w) == rle);
      CHECK(rle_from_pairs(to_pairs(rle, PixelOrder::row), h, w, PixelOrder::row) == rle);
      CHECK(rle_from_pairs(to_pairs(rle, PixelOrder::column), h, w, PixelOrder::column) == rle);
      int64_t pixels = 0;
      for (int64_t i = 0; i < mask.size(); ++i) pixels += mask.data<uint8_t>()[i];
      CHECK(area(rle) == pixels);
      const Tensor other = random_mask(h, w, 0.4, ++seed);
      int64_t both = 0, either = 0;
      for (int64_t i = 0; i < mask.size(); ++i) {
        both += mask.data<uint8_t>()[i] & other.data<uint8_t>()[i];
        either += mask.data<uint8_t>()[i] | other.data<uint8_t>()[i];
      }
      const std::vector<Rle> pair{rle, encode_mask(other)};
      CHECK(intersection_area(pair[0], pair[1]) == both);
      CHECK(area(merge(pair)) == either);
      CHECK(iou(pair[0], pair[1]) == (either ? double(both) / double(either) : 0.0));
    }
  }
}

TEST_CASE("label maps to masks and back") {
  Random random(4);
  Tensor labels({37, 41}, DType::int32);
  for (int64_t i = 0; i < labels.size(); ++i) {
    const auto v = int32_t(random.below(6));
    labels.data<int32_t>()[i] = v == 4 ? 0 : v * 100;  // gaps between the labels
  }
  std::vector<int32_t> values;
  const std::vector<Rle> masks = masks_of_labels(labels, &values);
  CHECK(values == std::vector<int32_t>{100, 200, 300, 500});
  const Tensor back = labels_of_masks(masks, 37, 41);
  for (int64_t i = 0; i < labels.size(); ++i) {
    const int32_t v = back.data<int32_t>()[i];
    REQUIRE((v ? values[size_t(v - 1)] : 0) == labels.data<int32_t>()[i]);
  }
  // Of overlapping instances the smaller is on top.
  std::vector<Instance> instances(2);
  instances[0].mask = rle_from_box({2, 2, 3, 3}, 8, 8);
  instances[1].mask = rle_from_box({0, 0, 8, 8}, 8, 8);
  const Tensor painted = labels_of_instances(instances, 8, 8);
  CHECK(painted.data<int32_t>()[3 * 8 + 3] == 1);
  CHECK(painted.data<int32_t>()[0] == 2);
}

TEST_CASE("broken run lengths say what is wrong") {
  const auto pairs = [](const char* text) { return rle_from_pairs(text, 4, 6); };
  CHECK_THROWS_WITH_AS(pairs("3"), "run lengths: 1 numbers, want pairs of start and length (text cut off?)", DataError);
  CHECK_THROWS_WITH_AS(pairs("0 2"), "run lengths: pair 1 starts at 0, want starts from 1 (written with 0-based starts?)",
                       DataError);
  CHECK_THROWS_WITH_AS(pairs("3 0"), "run lengths: pair 1 '3 0' is empty, want lengths from 1", DataError);
  CHECK_THROWS_WITH_AS(pairs("24 2"), "run lengths: pair 1 '24 2' ends at pixel 25, the image has 4 x 6 = 24 (wrong image size?)",
                       DataError);
  CHECK_THROWS_WITH_AS(pairs("3 4 5 2"), "run lengths: pair 2 '5 2' overlaps the pair before it, which ends at pixel 6",
                       DataError);
  CHECK_THROWS_WITH_AS(pairs("3 4 6 2"), "run lengths: pair 2 '6 2' overlaps the pair before it, which ends at pixel 6",
                       DataError);  // by one pixel
  CHECK_THROWS_WITH_AS(pairs("9 2 3 2"),
                       "run lengths: pair 2 '3 2' comes after a pair that starts later; want ascending starts (row-major order)",
                       DataError);
  CHECK_THROWS_WITH_AS(pairs("x 2"), "run lengths: 'x' as number 1, want whole numbers from 1 (is this a COCO string?)",
                       DataError);
  CHECK_THROWS_WITH_AS(pairs("-3 2"), "run lengths: '-3' as number 1, want whole numbers from 1", DataError);
  CHECK_THROWS_AS(pairs("99999999999999999999 1"), DataError);
  CHECK(pairs(" 3 2\t5 1\r\n") == pairs("3 3"));  // touching runs, other blanks

  const auto counts = [](std::vector<int64_t> list) { return rle_from_counts(list, 3, 4); };
  CHECK_THROWS_WITH_AS(counts({5, 3}),
                       "run lengths: counts add up to 8, the image has 3 x 4 = 12 pixels (wrong image size, or cut off?)",
                       DataError);
  CHECK_THROWS_WITH_AS(counts({5, -1, 8}), "run lengths: count 2 is -1, want 0 or more", DataError);
  CHECK_THROWS_AS(counts({5, 9}), DataError);
  CHECK(counts({5, 0, 2, 5}) == counts({7, 5}));  // empty runs inside

  CHECK_THROWS_WITH_AS(rle_from_coco_string("52205OK1", 4, 6),
                       "run lengths: counts add up to 23, the image has 4 x 6 = 24 pixels (wrong image size, or cut off?)",
                       DataError);
  CHECK_THROWS_WITH_AS(rle_from_coco_string("52205OK1o", 4, 6), "COCO mask string: ends inside a number (cut off?)", DataError);
  CHECK_THROWS_AS(rle_from_coco_string("8 2 12 1", 4, 6), DataError);
  CHECK_THROWS_AS(rle_from_coco_string("oooooooooooooooo0", 4, 6), DataError);

  // Caps hold before memory is taken.
  CHECK_THROWS_AS(rle_from_pairs("1 1", int64_t(1) << 40, int64_t(1) << 40), DataError);
  CHECK_THROWS_AS(rle_from_counts(std::vector<int64_t>{1}, 20'000, 20'000), DataError);
  const int64_t most = file_limits().pixels;
  for (const int64_t n : {most - 1, most}) CHECK_NOTHROW(rle_from_counts(std::vector<int64_t>{n}, 1, n));
  CHECK_THROWS_AS(rle_from_counts(std::vector<int64_t>{most + 1}, 1, most + 1), DataError);
  CHECK_THROWS_AS(intersection_area(encode_mask(random_mask(2, 3, 1, 1)), encode_mask(random_mask(3, 2, 1, 1))), DataError);
}

TEST_CASE("a swapped pixel order is noticed") {
  Tensor mask = Tensor::zeros({60, 90}, DType::uint8);
  for (int64_t y = 10; y < 40; ++y)
    for (int64_t x = 20; x < 35 + y % 3; ++x) mask.data<uint8_t>()[y * 90 + x] = 1;
  const std::string right = to_pairs(encode_mask(mask)), wrong = to_pairs(encode_mask(mask), PixelOrder::column);
  CHECK_FALSE(other_order_fits_better(right, 60, 90, PixelOrder::row));
  CHECK(other_order_fits_better(wrong, 60, 90, PixelOrder::row));
  CHECK(other_order_fits_better(right, 60, 90, PixelOrder::column));
}

TEST_CASE("polygons: known answers of pycocotools, and refusals") {
  const auto counts = [](std::vector<double> xy) { return rle_from_polygon(xy, 6, 8).counts; };
  CHECK(counts({1, 1, 5, 1, 5, 4, 1, 4}) == std::vector<uint32_t>{7, 3, 3, 3, 3, 3, 3, 3, 20});
  CHECK(counts({.4, .4, 6.7, 1.2, 3.3, 5.6}) == std::vector<uint32_t>{7, 1, 5, 3, 3, 4, 2, 3, 3, 2, 15});
  CHECK(counts({-3, -3, 4, -3, 4, 4, -3, 4}) == std::vector<uint32_t>{0, 4, 2, 4, 2, 4, 2, 4, 26});
  CHECK(polygon_area(std::vector<double>{0, 0, 4, 0, 4, 3, 0, 3}) == 12);
  CHECK(area(rle_from_polygons(std::vector<Polygon>{}, 6, 8)) == 0);
  CHECK_THROWS_WITH_AS(counts({1, 1, 5, 1}), "polygon: 4 numbers, want x0 y0 x1 y1 ... of at least 3 points", DataError);
  CHECK_THROWS_AS(counts({1, 1, 5, 1, 5}), DataError);
  CHECK_THROWS_WITH_AS(
      rle_from_polygon(std::vector<double>{1, 1, 5, 1, 5, 4}, int64_t(1) << 40, int64_t(1) << 40),
      "polygon: an image of 1099511627776 x 1099511627776 pixels (height x width), want at most 178956970 pixels in all; "
      "if the file is meant so, --file-limit pixels=NUMBER raises it",
      DataError);
  CHECK_THROWS_AS(counts({1, 1, 5, 1, NAN, 4}), DataError);
  CHECK_THROWS_AS(counts({1, 1, 5e30, 1, 5, 4}), DataError);
  CHECK_THROWS_AS(counts({0, 0, 4e7, 0, 0, 1}), DataError);
}

TEST_SUITE_END();
